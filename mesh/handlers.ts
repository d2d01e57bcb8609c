/** What is served, by method, and one way to run a handler of any kind: messages in, messages out. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type {
  DescMessage,
  DescMethod,
  DescService,
  Message,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { Code, ConnectError, createServiceImplSpec } from "@connectrpc/connect";
import type { HandlerContext, MethodImplSpec, ServiceImpl } from "@connectrpc/connect";
import assert from "node:assert/strict";

export type Handler = MethodImplSpec;
/** A message as callers and handlers may give it: whole, or only what is set. */
export type Given = MessageInitShape<DescMessage>;
export type Answers = AsyncIterator<Given>;

export class Handlers {
  /** In the order in which they were added. */
  readonly services: DescService[] = [];
  readonly #handlers = new Map<string, Handler>();
  readonly #tell: ((handler: Handler) => void)[] = [];

  add<S extends DescService>(service: S, implementation: ServiceImpl<S>): void {
    assert(!this.services.includes(service), `${service.typeName} is served twice`);
    this.services.push(service);
    const { methods } = createServiceImplSpec<S>(service, implementation);
    for (const handler of Object.values(methods)) {
      this.#handlers.set(nameOf(handler.method), handler);
      for (const tell of this.#tell) tell(handler);
    }
  }

  /** Tells of every handler: of those that are here now, and of those to come. */
  each(tell: (handler: Handler) => void): void {
    for (const handler of this.#handlers.values()) tell(handler);
    this.#tell.push(tell);
  }

  find(method: DescMethod): Handler {
    const handler = this.#handlers.get(nameOf(method));
    if (handler === undefined)
      throw new ConnectError(`${method.parent.typeName} is not served here`, Code.Unimplemented);
    return handler;
  }
}

function nameOf(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`;
}

/** Makes whole messages of what a caller or a handler gave; with `wire` by way of their encoding. */
export function whole<D extends DescMessage>(
  type: D,
  wire: boolean,
): (value: Given) => MessageShape<D> {
  // Generated types saw to it on both sides that it is this type's; here both sides' types are gone.
  const make = (value: Given): MessageShape<D> => create(type, value as MessageInitShape<D>);
  return wire ? (value) => fromBinary(type, toBinary(type, make(value))) : make;
}

/** An iterator over one value. */
export function once<T>(make: () => Promise<T> | T): AsyncIterator<T, undefined> {
  let made = false;
  return {
    async next() {
      if (made) return { done: true, value: undefined };
      made = true;
      return { done: false, value: await make() };
    },
  };
}

/** The handler's answers. It runs from the first `next` on; nothing is thrown before. */
export function invoke(
  handler: Handler,
  input: AsyncIterableIterator<Message>,
  context: HandlerContext,
): Answers {
  switch (handler.kind) {
    case "unary":
      return once(async () => handler.impl(await single(input), context));
    case "client_streaming":
      return once(() => handler.impl(input, context));
    case "server_streaming":
      return later(async () => handler.impl(await single(input), context));
    case "bidi_streaming":
      return later(() => handler.impl(input, context));
  }
}

async function single(input: AsyncIterableIterator<Message>): Promise<Message> {
  const first = await input.next();
  if (first.done === true)
    throw new ConnectError("the call has no request message", Code.Unimplemented);
  await input.return?.();
  return first.value;
}

type Stream = AsyncIterable<Given>;

/** The stream's own iterator, made when first asked. */
function later(make: () => Promise<Stream> | Stream): Answers {
  let made: Answers | undefined;
  return {
    next: () => (made === undefined ? begin() : made.next()),
    return: async () => {
      await made?.return?.();
      return { done: true, value: undefined };
    },
  };

  async function begin(): Promise<IteratorResult<Given>> {
    made = (await make())[Symbol.asyncIterator]();
    return made.next();
  }
}
