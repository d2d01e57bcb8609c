/** Calls of generated clients over the simulated network: the handler's side is the mesh's own, the way between takes time and may be lost. */
import type {
  DescMessage,
  DescMethod,
  DescMethodStreaming,
  DescMethodUnary,
  MessageInitShape,
} from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { StreamResponse, Transport, UnaryResponse } from "@connectrpc/connect";
import { setMaxListeners } from "node:events";
import { Call, over } from "../../mesh/call.ts";
import { abortError, deadlineError, publicError, unavailable } from "../../mesh/errors.ts";
import type { Given } from "../../mesh/handlers.ts";
import { type Handlers, once, whole } from "../../mesh/handlers.ts";
import { Relay, toldLater } from "../../mesh/relay.ts";
import type { Host } from "./host.ts";
import type { End, Network } from "./network.ts";

/** Messages that may be on their way or unread: then the sender waits. */
const window = 8;
/** So many are read before the sender hears of it. */
const readAtOnce = 4;
const leastBackoffMs = 100;
const mostBackoffMs = 5_000;

/** A process that can be called. */
export interface Callee {
  readonly host: Host;
  readonly handlers: Handlers;
  /** Whether it listens. */
  readonly listening: boolean;
  onInternalError(error: unknown, method: DescMethod): void;
}

/** What one side hears of the other in one call. */
interface Hearer {
  message(value: Given): void;
  ended(error: ConnectError | undefined): void;
  /** The other side has read some more. */
  read(): void;
}

/** What came and was not read yet. */
class Inbound implements AsyncIterableIterator<Given, undefined> {
  readonly #values: Given[] = [];
  readonly #read: () => void;
  #waiting:
    | { resolve(result: IteratorResult<Given, undefined>): void; reject(error: unknown): void }
    | undefined;
  #end: { error: ConnectError | undefined } | undefined;

  constructor(read: () => void) {
    let count = 0;
    this.#read = () => {
      count += 1;
      if (count % readAtOnce === 0) read();
    };
  }

  add(value: Given): void {
    if (this.#end !== undefined) return;
    if (this.#waiting === undefined) {
      this.#values.push(value);
      return;
    }
    const { resolve } = this.#waiting;
    this.#waiting = undefined;
    resolve({ done: false, value });
    this.#read();
  }

  /** What came before may still be read. */
  end(error?: ConnectError): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (error === undefined) waiting?.resolve({ done: true, value: undefined });
    else waiting?.reject(error);
  }

  next(): Promise<IteratorResult<Given, undefined>> {
    const value = this.#values.shift();
    if (value !== undefined) {
      this.#read();
      return Promise.resolve({ done: false, value });
    }
    if (this.#end !== undefined) {
      const { error } = this.#end;
      return error === undefined
        ? Promise.resolve({ done: true, value: undefined })
        : Promise.reject(error);
    }
    return new Promise((resolve, reject) => (this.#waiting = { resolve, reject }));
  }

  return(): Promise<IteratorResult<Given, undefined>> {
    this.#values.length = 0;
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** Sends what a source has, as far as the other side reads. */
class Pump {
  #room = window;
  #wake = (): void => undefined;

  /** The other side has read some. */
  read(): void {
    this.#room += readAtOnce;
    this.#wake();
  }

  async run(
    source: AsyncIterator<Given>,
    send: (value: Given) => void,
    going: () => boolean,
  ): Promise<void> {
    for (;;) {
      while (this.#room <= 0 && going())
        await new Promise<void>((resolve) => (this.#wake = resolve));
      if (!going()) return;
      const next = await source.next();
      if (next.done === true || !going()) return;
      this.#room -= 1;
      send(next.value);
    }
  }

  stop(): void {
    this.#room = window;
    this.#wake();
  }
}

interface Asked {
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number | undefined;
  readonly header: ConstructorParameters<typeof Headers>[0];
}

export interface SimTransport extends Transport {
  /** Whether a connection was tried and could not be had, and is not tried just now. */
  readonly failing: boolean;
  close(): void;
}

export interface CallOptions {
  readonly network: Network;
  readonly host: Host;
  /** Who answers just now; undefined: nobody, for that reason. */
  readonly callee: () => Callee | undefined;
  /** Encodes and decodes every message. */
  readonly wire: boolean;
}

/** One connection to one process, made with the first call and made again when it was lost. */
export function simTransport(options: CallOptions): SimTransport {
  return new Channel(options);
}

class Channel implements SimTransport {
  readonly options: CallOptions;
  readonly #calls = new Set<CallerSide>();
  #waiting: CallerSide[] = [];
  #end: End | undefined;
  #callee: Callee | undefined;
  #connecting = false;
  #notBeforeMs = 0;
  #backoffMs = leastBackoffMs;
  #closed = false;

  constructor(options: CallOptions) {
    this.options = options;
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: ConstructorParameters<typeof Headers>[0],
    input: MessageInitShape<I>,
  ): Promise<UnaryResponse<I, O>> {
    const call = this.#call(method, { signal, timeoutMs, header });
    const output = call.run(
      once(() => input as Given),
      whole(method.output, false),
    );
    const first = await output.next();
    if (first.done === true) throw new ConnectError("no answer", Code.Internal);
    call.finish(undefined);
    return {
      stream: false,
      service: method.parent,
      method,
      header: new Headers(),
      trailer: new Headers(),
      message: first.value,
    };
  }

  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: ConstructorParameters<typeof Headers>[0],
    input: AsyncIterable<MessageInitShape<I>>,
  ): Promise<StreamResponse<I, O>> {
    return toldLater(this.#stream(method, { signal, timeoutMs, header }, input));
  }

  async #stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    asked: Asked,
    input: AsyncIterable<MessageInitShape<I>>,
  ): Promise<StreamResponse<I, O>> {
    const call = this.#call(method, asked);
    const source = input[Symbol.asyncIterator]() as AsyncIterator<Given>;
    const message = call.run(source, whole(method.output, false));
    await message.start();
    return {
      stream: true,
      service: method.parent,
      method,
      header: new Headers(),
      trailer: new Headers(),
      message,
    };
  }

  get failing(): boolean {
    return this.#end?.open !== true && this.options.network.timeline.nowMs < this.#notBeforeMs;
  }

  close(): void {
    this.#closed = true;
    this.#over(unavailable("the channel is closing"));
  }

  forget(call: CallerSide): void {
    this.#calls.delete(call);
  }

  #call(method: DescMethod, asked: Asked): CallerSide {
    if (this.#closed) throw unavailable("the channel is closed");
    const call = new CallerSide(this, method, asked);
    this.#calls.add(call);
    if (this.#end?.open === true && this.#callee !== undefined) call.begin(this.#end, this.#callee);
    else this.#connect(call);
    return call;
  }

  #connect(call: CallerSide): void {
    const { network, host, callee } = this.options;
    const { timeline } = network;
    if (!this.#connecting && timeline.nowMs < this.#notBeforeMs) {
      timeline.in(0, () => host.hears(() => call.finish(unavailable("no connection"))));
      return;
    }
    this.#waiting.push(call);
    if (this.#connecting) return;
    const to = callee();
    if (to === undefined) {
      this.#waiting = [];
      timeline.in(0, () => host.hears(() => call.finish(unavailable("nobody is there"))));
      return;
    }
    this.#connecting = true;
    network.connect(host, to.host, () => to.listening, {
      connected: (end) => {
        this.#connecting = false;
        this.#backoffMs = leastBackoffMs;
        if (this.#closed) return end.close();
        this.#end = end;
        this.#callee = to;
        end.onBroken = () => this.#over(unavailable("the connection was lost"));
        const waiting = this.#waiting;
        this.#waiting = [];
        for (const one of waiting) one.begin(end, to);
      },
      failed: (reason) => {
        this.#connecting = false;
        this.#notBeforeMs = timeline.nowMs + this.#backoffMs;
        this.#backoffMs = Math.min(mostBackoffMs, this.#backoffMs * 1.6);
        const waiting = this.#waiting;
        this.#waiting = [];
        for (const one of waiting) one.finish(unavailable(`no connection: ${reason}`));
      },
    });
  }

  #over(error: ConnectError): void {
    const end = this.#end;
    this.#end = undefined;
    end?.close();
    for (const call of [...this.#calls]) call.finish(error);
    this.#waiting = [];
  }
}

class CallerSide implements Hearer {
  readonly #channel: Channel;
  readonly #method: DescMethod;
  readonly #asked: Asked;
  readonly #inbound: Inbound;
  readonly #pump = new Pump();
  readonly #release: (() => void)[] = [];
  #input: Relay<Given, Given> | undefined;
  #output: { release(error: ConnectError | undefined): void } | undefined;
  #begun: { end: End; other: CalleeSide } | undefined;
  #over = false;

  constructor(channel: Channel, method: DescMethod, asked: Asked) {
    const { signal, timeoutMs } = asked;
    if (signal?.aborted === true) throw abortError(signal);
    if (timeoutMs !== undefined && timeoutMs <= 0) throw deadlineError();
    this.#channel = channel;
    this.#method = method;
    this.#asked = asked;
    this.#inbound = new Inbound(() => this.#tell((other) => other.read()));
    if (signal !== undefined) {
      const abort = (): void => this.finish(abortError(signal));
      // As over gRPC: one signal may end any number of calls.
      setMaxListeners(0, signal);
      signal.addEventListener("abort", abort, { once: true });
      this.#release.push(() => signal.removeEventListener("abort", abort));
    }
    if (timeoutMs !== undefined)
      this.#release.push(
        channel.options.host.clock.after(timeoutMs, () => this.finish(deadlineError())),
      );
  }

  run<B>(source: AsyncIterator<Given>, response: (value: Given) => B): Relay<Given, B> {
    const request = whole(this.#method.input, this.#channel.options.wire);
    this.#input = new Relay<Given, Given>(source, request, {
      ended: (error) => {
        if (error !== undefined) this.finish(ConnectError.from(error));
        return undefined;
      },
      left: () => undefined,
    });
    const output = new Relay(this.#inbound, response, {
      ended: (error) => {
        if (error === undefined) return undefined;
        const seen = ConnectError.from(error);
        this.#end();
        return seen;
      },
      left: () => this.finish(over()),
    });
    this.#output = output;
    if (this.#begun !== undefined) this.#send();
    return output;
  }

  begin(end: End, callee: Callee): void {
    if (this.#over) return;
    const { wire } = this.#channel.options;
    const { timeoutMs, header } = this.#asked;
    const other = new CalleeSide(this, callee, wire);
    this.#begun = { end, other };
    end.send(() => other.open(this.#method, timeoutMs, header, end));
    if (this.#input !== undefined) this.#send();
  }

  /** Its caller sees the error, or nothing more; the other side is told. */
  finish(error: ConnectError | undefined): void {
    if (this.#over) return;
    this.#tell((other) => other.abandoned());
    this.#end();
    this.#output?.release(error);
    this.#inbound.end(error);
  }

  message(value: Given): void {
    this.#inbound.add(value);
  }

  ended(error: ConnectError | undefined): void {
    this.#inbound.end(error);
    this.#end();
  }

  read(): void {
    this.#pump.read();
  }

  #tell(say: (other: CalleeSide) => void): void {
    if (this.#begun === undefined || this.#over) return;
    const { end, other } = this.#begun;
    end.send(() => say(other));
  }

  #send(): void {
    const input = this.#input;
    if (input === undefined) return;
    void this.#pump
      .run(
        input,
        (value) => this.#tell((other) => other.message(value)),
        () => !this.#over,
      )
      .then(
        () => this.#tell((other) => other.ended()),
        () => undefined,
      );
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#channel.forget(this);
    for (const release of this.#release) release();
    this.#pump.stop();
    this.#input?.release(undefined);
  }
}

class CalleeSide {
  readonly #caller: Hearer;
  readonly #callee: Callee;
  readonly #wire: boolean;
  readonly #pump = new Pump();
  #inbound = new Inbound(() => undefined);
  #call: Call | undefined;

  constructor(caller: Hearer, callee: Callee, wire: boolean) {
    this.#caller = caller;
    this.#callee = callee;
    this.#wire = wire;
  }

  open(method: DescMethod, timeoutMs: number | undefined, header: Asked["header"], end: End): void {
    const { handlers, host, onInternalError } = this.#callee;
    const back = end.peer;
    this.#inbound = new Inbound(() => back.send(() => this.#caller.read()));
    const calls = callsOf(back);
    try {
      const call = new Call(
        handlers.find(method),
        { signal: undefined, timeoutMs, header, contextValues: undefined },
        { protocolName: "grpc", clock: host.clock, onInternalError, calls },
      );
      this.#call = call;
      const request = whole(method.input, false);
      const response = whole(method.output, this.#wire);
      const output = call.run(this.#inbound, request, response);
      void this.#pump
        .run(
          output,
          (value) => back.send(() => this.#caller.message(value)),
          () => true,
        )
        .then(
          () => back.send(() => this.#caller.ended(undefined)),
          (error: unknown) => back.send(() => this.#caller.ended(publicError(error))),
        );
    } catch (error) {
      back.send(() => this.#caller.ended(publicError(error)));
    }
  }

  message(value: Given): void {
    this.#inbound.add(value);
  }

  ended(): void {
    this.#inbound.end();
  }

  read(): void {
    this.#pump.read();
  }

  abandoned(): void {
    const gone = new ConnectError("the caller ended the call", Code.Canceled);
    this.#call?.end(gone, gone);
    this.#pump.stop();
  }
}

const callsByEnd = new WeakMap<End, Set<Call>>();

/** The calls that came over a connection: they end with it. */
function callsOf(end: End): Set<Call> {
  const known = callsByEnd.get(end);
  if (known !== undefined) return known;
  const calls = new Set<Call>();
  callsByEnd.set(end, calls);
  end.onBroken = () => {
    const lost = unavailable("the connection was lost");
    for (const call of [...calls]) call.end(lost, lost);
  };
  return calls;
}
