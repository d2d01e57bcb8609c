/** The mesh within one process: messages go from side to side by reference, and nobody may change one that was sent. */
import type {
  DescMessage,
  DescMethod,
  DescMethodStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
} from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { ServiceImpl, StreamResponse, Transport, UnaryResponse } from "@connectrpc/connect";
import { Call, over } from "./call.ts";
import type { Asked, CallSettings } from "./call.ts";
import { systemClock } from "./clock.ts";
import { unavailable } from "./errors.ts";
import { Handlers, once, whole } from "./handlers.ts";
import type { Mesh } from "./mesh.ts";
import { toldLater } from "./relay.ts";

export interface LocalMeshOptions extends Partial<Pick<CallSettings, "clock" | "onInternalError">> {
  /** Encodes and decodes every message, so that a test sees what a wire would do to it. */
  wire?: boolean;
}

export class LocalMesh implements Mesh {
  /** What is served here; a gRPC server may serve the same. */
  readonly handlers = new Handlers();
  readonly #calls = new Set<Call>();
  readonly #settings: CallSettings;
  readonly #wire: boolean;
  readonly #transport: Transport = {
    unary: (method, signal, timeoutMs, header, input, contextValues) =>
      this.#unary(method, { signal, timeoutMs, header, contextValues }, input),
    stream: (method, signal, timeoutMs, header, input, contextValues) =>
      toldLater(this.#stream(method, { signal, timeoutMs, header, contextValues }, input)),
  };
  #closed = false;

  constructor(options: LocalMeshOptions = {}) {
    const { wire = false, clock = systemClock, onInternalError = () => undefined } = options;
    this.#wire = wire;
    this.#settings = { protocolName: "local", clock, onInternalError, calls: this.#calls };
  }

  serve<S extends DescService>(service: S, implementation: ServiceImpl<S>): void {
    this.handlers.add(service, implementation);
  }

  transport(_service: DescService): Transport {
    return this.#transport;
  }

  close(): Promise<void> {
    this.#closed = true;
    const error = unavailable("the mesh is closing");
    for (const call of this.#calls) call.end(error, error);
    return Promise.resolve();
  }

  #open(method: DescMethod, asked: Asked): Call {
    if (this.#closed) throw unavailable("the mesh is closed");
    return new Call(this.handlers.find(method), asked, this.#settings);
  }

  async #unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    asked: Asked,
    input: MessageInitShape<I>,
  ): Promise<UnaryResponse<I, O>> {
    const call = this.#open(method, asked);
    const request = whole(method.input, this.#wire);
    const output = call.run(
      once(() => input),
      request,
      whole(method.output, this.#wire),
    );
    const first = await output.next();
    if (first.done === true) throw new ConnectError("the handler gave no answer", Code.Internal);
    call.end(undefined, over());
    const { responseHeader: header, responseTrailer: trailer } = call.context;
    return {
      stream: false,
      service: method.parent,
      method,
      header,
      trailer,
      message: first.value,
    };
  }

  async #stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    asked: Asked,
    input: AsyncIterable<MessageInitShape<I>>,
  ): Promise<StreamResponse<I, O>> {
    const call = this.#open(method, asked);
    const message = call.run(
      input[Symbol.asyncIterator](),
      whole(method.input, this.#wire),
      whole(method.output, this.#wire),
    );
    // The handler starts when it is called, not when it is first read; up to its first message it may set headers.
    await message.start();
    const { responseHeader: header, responseTrailer: trailer } = call.context;
    return { stream: true, service: method.parent, method, header, trailer, message };
  }
}
