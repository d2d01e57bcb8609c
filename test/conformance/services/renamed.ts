/** A way to a storage that has things in it already: every user, conversation and incarnation gets a name that nobody had before, and its old one again in answers. */
import {
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
  ScalarType,
  create,
  fromBinary,
  toBinary,
} from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import type { Transport } from "@connectrpc/connect";
import { RecordSchema } from "../../../proto/gen/parley/v1/record_pb.ts";

const named =
  /(^|_)(conversation_id|user_ids?|sender_id|uploader_id)$|^(incarnation|added|removed)$/;
const records = /^records?$/;

type Rename = (name: string) => string;

export function renamedTransport(transport: Transport, suffix: string): Transport {
  const there = eachUser((name) => (name === "" ? "" : name + suffix));
  const back = eachUser((name) => (name.endsWith(suffix) ? name.slice(0, -suffix.length) : name));
  return {
    async unary(method, signal, timeoutMs, header, input, contextValues) {
      const asked = renamed(method.input, input, there);
      const answer = await transport.unary(method, signal, timeoutMs, header, asked, contextValues);
      rename(reflect(method.output, answer.message), back);
      return answer;
    },
    async stream(method, signal, timeoutMs, header, input, contextValues) {
      const asked = each(input, (message) => renamed(method.input, message, there));
      const answer = await transport.stream(
        method,
        signal,
        timeoutMs,
        header,
        asked,
        contextValues,
      );
      const told = (message: MessageShape<typeof method.output>) => {
        rename(reflect(method.output, message), back);
        return message;
      };
      return { ...answer, message: each(answer.message, told) };
    },
  };
}

/** The id of a direct conversation is made of its users. */
const eachUser =
  (change: Rename): Rename =>
  (name) => {
    const [kind = "", ...users] = name.split(":");
    return kind === "d" ? [kind, ...users.map(change)].join(":") : change(name);
  };

async function* each<T, R>(all: AsyncIterable<T>, change: (one: T) => R): AsyncGenerator<R, void> {
  for await (const one of all) yield change(one);
}

/** A copy: what the test gave is still the test's. */
function renamed<D extends DescMessage>(type: D, given: MessageInitShape<D>, change: Rename) {
  const message = fromBinary(type, toBinary(type, create(type, given)));
  rename(reflect(type, message), change);
  // What is of the type is also what one of the type can be made from.
  return message as MessageInitShape<D>;
}

function rename(message: ReflectMessage, change: Rename): void {
  for (const field of message.fields) {
    if (!message.isSet(field)) continue;
    if (field.fieldKind === "message") rename(message.get(field), change);
    else if (field.fieldKind === "scalar")
      message.set(field, value(field.name, field.scalar, message.get(field), change));
    else if (field.fieldKind === "list") {
      const list = message.get(field);
      for (let at = 0; at < list.size; at += 1) {
        const one = list.get(at);
        if (field.listKind === "message") rename(one as ReflectMessage, change);
        else if (field.listKind === "scalar")
          list.set(at, value(field.name, field.scalar, one, change));
      }
    }
  }
}

function value(name: string, scalar: ScalarType, before: unknown, change: Rename): unknown {
  if (scalar === ScalarType.STRING && named.test(name)) return change(String(before));
  if (scalar !== ScalarType.BYTES || !records.test(name)) return before;
  const record = fromBinary(RecordSchema, before as Uint8Array);
  rename(reflect(RecordSchema, record), change);
  return toBinary(RecordSchema, record);
}
