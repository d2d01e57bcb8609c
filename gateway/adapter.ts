/** Puts Connect's handlers behind node:http. It differs from connect-node's own adapter in what it tells: faults go to the log, and a message that cannot be read is the caller's fault. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { DescService } from "@bufbuild/protobuf";
import { Code, ConnectError, createConnectRouter, createContextValues } from "@connectrpc/connect";
import type { ConnectRouterOptions, ServiceImpl } from "@connectrpc/connect";
import {
  compressionBrotli,
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import type {
  Compression,
  UniversalHandler,
  UniversalServerResponse,
} from "@connectrpc/connect/protocol";
import { codeToHttpStatus, codeToString } from "@connectrpc/connect/protocol-connect";
import type { Logger } from "pino";
import { invalid } from "../mesh/errors.ts";
import { remoteKey } from "./connect.ts";
import type { Remote } from "./connect.ts";

/** False where the path names no method of the service. Throws where the request has no usable Host header. */
export type Adapter = (
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
  remote: Remote,
) => boolean;

/** Text that is no UTF-8 is refused, not mended. */
const jsonOptions = {
  ignoreUnknownFields: true,
  textDecoder: new TextDecoder("utf-8", { fatal: true }),
};

const unreadable = `{"code":"${codeToString(Code.Internal)}","message":"parse binary: `;
const read = `{"code":"${codeToString(Code.InvalidArgument)}","message":"the message cannot be read: `;
/** Of the envelope that ends a Connect stream. */
const endFlag = 2;
const envelopeBytes = 5;

/** What a timer can wait; more would end at once. */
const timerMsMax = 2_147_483_647;
const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000 };

/** The same answer, but for a message that cannot be read: the library calls that an internal error, as gRPC does and Connect does not. */
async function corrected(answer: UniversalServerResponse): Promise<UniversalServerResponse> {
  const { status, header, body } = answer;
  if (
    body !== undefined &&
    header?.get("content-type")?.startsWith("application/connect+") === true
  )
    return { ...answer, body: correctedEnd(body) };
  if (status !== codeToHttpStatus(Code.Internal) || body === undefined) return answer;
  if (header?.get("content-type") !== "application/json") return answer;
  if (header.has("content-encoding")) return answer;
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  if (!text.startsWith(unreadable)) return { ...answer, body: once(Buffer.from(text)) };
  const said = read + text.slice(unreadable.length);
  header.set("content-length", String(Buffer.byteLength(said)));
  return { status: codeToHttpStatus(Code.InvalidArgument), header, body: once(Buffer.from(said)) };
}

/** The envelopes of a stream, each a chunk. */
async function* correctedEnd(
  envelopes: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, undefined> {
  for await (const envelope of envelopes) {
    const text =
      envelope[0] === endFlag ? Buffer.from(envelope.subarray(envelopeBytes)).toString() : "";
    const error = `{"error":${unreadable}`;
    if (text.startsWith(error)) {
      const said = Buffer.from(`{"error":${read}${text.slice(error.length)}`);
      const head = Buffer.from([endFlag, 0, 0, 0, 0]);
      head.writeUInt32BE(said.length, 1);
      yield Buffer.concat([head, said]);
    } else yield envelope;
  }
  return undefined;
}

/** What cannot be decompressed is the caller's fault: the library calls that an internal error. */
function theirFault(compression: Compression): Compression {
  const decompress: Compression["decompress"] = (bytes, maxBytes) =>
    compression.decompress(bytes, maxBytes).catch((error: unknown) => {
      const { code, rawMessage } = ConnectError.from(error);
      throw code === Code.Internal ? invalid(`the message cannot be read: ${rawMessage}`) : error;
    });
  return { ...compression, decompress };
}

/** Deadlines too far away for a timer are brought nearer: still too far to be taken. */
function boundDeadlines(headers: IncomingMessage["headers"]): void {
  if (Number(headers["connect-timeout-ms"]) > timerMsMax)
    headers["connect-timeout-ms"] = String(timerMsMax);
  const [, count = "", unit = ""] = /^(\d+)([HMS])$/.exec(String(headers["grpc-timeout"])) ?? [];
  const most = Math.floor(timerMsMax / (unitMs[unit] ?? 1));
  if (Number(count) > most) headers["grpc-timeout"] = `${most}${unit}`;
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, undefined> {
  yield bytes;
  return undefined;
}

export function createAdapter<S extends DescService>(
  service: S,
  implementation: ServiceImpl<S>,
  options: ConnectRouterOptions,
  log: Logger,
): Adapter {
  const acceptCompression = [compressionGzip, compressionBrotli].map(theirFault);
  const router = createConnectRouter({ acceptCompression, jsonOptions, ...options });
  const handlers = new Map<string, UniversalHandler>();
  for (const handler of router.service(service, implementation).handlers)
    handlers.set(handler.requestPath, handler);

  return (path, request, response, remote) => {
    const handler = handlers.get(path);
    if (handler === undefined) return false;
    boundDeadlines(request.headers);
    const values = createContextValues().set(remoteKey, remote);
    const universal = universalRequestFromNodeRequest(request, response, undefined, values);
    handler(universal)
      .then(corrected)
      .then((answer) => universalResponseToNodeResponse(answer, response))
      .catch((error: unknown) => {
        // Nobody is there to be told: most often it is the client that went away.
        log.debug({ err: error, method: handler.method.name }, "an answer could not be sent");
        response.destroy();
      });
    return true;
  };
}
