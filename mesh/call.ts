/** The handler's side of one call, whichever way the call came: it ends once, and everything that waits in it with it. */
import type { DescMethod, Message } from "@bufbuild/protobuf";
import { Code, ConnectError, createHandlerContext } from "@connectrpc/connect";
import type { ContextValues, HandlerContext } from "@connectrpc/connect";
import { setMaxListeners } from "node:events";
import type { Clock } from "./clock.ts";
import { abortError, deadlineError, publicError } from "./errors.ts";
import { invoke } from "./handlers.ts";
import type { Given, Handler } from "./handlers.ts";
import { Relay } from "./relay.ts";

/** What a caller said about a call. */
export interface Asked {
  signal: AbortSignal | undefined;
  timeoutMs: number | undefined;
  header: ConstructorParameters<typeof Headers>[0];
  contextValues: ContextValues | undefined;
}

/** What all calls of a mesh share. */
export interface CallSettings {
  /** As handlers see it. */
  readonly protocolName: string;
  /** For deadlines. */
  readonly clock: Clock;
  /** Told of errors that a caller sees as "internal error" only. */
  readonly onInternalError: (error: unknown, method: DescMethod) => void;
  /** Those under way. */
  readonly calls: Set<Call>;
}

export class Call {
  readonly context: HandlerContext;
  readonly #handler: Handler;
  readonly #onInternalError: CallSettings["onInternalError"];
  readonly #release: ((callerSees: ConnectError | undefined, handlerSees: ConnectError) => void)[] =
    [];
  #ended = false;

  constructor(handler: Handler, asked: Asked, settings: CallSettings) {
    const { signal, timeoutMs, header, contextValues } = asked;
    if (signal?.aborted === true) throw abortError(signal);
    if (timeoutMs !== undefined && timeoutMs <= 0) throw deadlineError();
    const { protocolName, clock, onInternalError, calls } = settings;
    const { method } = handler;
    const context = createHandlerContext({
      service: method.parent,
      method,
      protocolName,
      requestMethod: "POST",
      url: `${protocolName}://mesh/${method.parent.typeName}/${method.name}`,
      ...(header === undefined ? {} : { requestHeader: header }),
      ...(contextValues === undefined ? {} : { contextValues }),
    });
    this.context = context;
    this.#handler = handler;
    this.#onInternalError = onInternalError;
    calls.add(this);
    this.#release.push((_, handlerSees) => {
      calls.delete(this);
      context.abort(handlerSees);
    });
    if (signal !== undefined) {
      const abort = (): void => this.end(abortError(signal), abortError(signal));
      // One signal may end any number of calls.
      setMaxListeners(0, signal);
      signal.addEventListener("abort", abort, { once: true });
      this.#release.push(() => signal.removeEventListener("abort", abort));
    }
    if (timeoutMs !== undefined) {
      const dueMs = clock.monotonic() + timeoutMs;
      this.context = Object.assign(context, { timeoutMs: () => dueMs - clock.monotonic() });
      this.#release.push(clock.after(timeoutMs, () => this.end(deadlineError(), deadlineError())));
    }
  }

  /** Starts the handler on its next read, and answers what the caller reads. */
  run<A, I extends Message, B>(
    source: AsyncIterator<A>,
    request: (value: A) => I,
    response: (value: Given) => B,
  ): Relay<Given, B> {
    const input = new Relay(source, request, {
      ended: (error) => {
        if (error === undefined) return undefined;
        const failed = new ConnectError("the caller's input failed", Code.Canceled);
        this.end(ConnectError.from(error), failed);
        return failed;
      },
      left: () => undefined,
    });
    const output = new Relay(invoke(this.#handler, input, this.context), response, {
      ended: (error) => {
        const seen = error === undefined ? undefined : publicError(error);
        if (seen?.code === Code.Internal) this.#onInternalError(error, this.#handler.method);
        this.end(seen, over());
        return seen;
      },
      left: () => this.end(undefined, over()),
    });
    this.#release.push((callerSees, handlerSees) => {
      input.release(handlerSees);
      output.release(callerSees);
    });
    return output;
  }

  /** Runs `release` when the call ends. */
  onEnd(release: () => void): void {
    this.#release.push(release);
  }

  /** Only the first end counts. */
  end(callerSees: ConnectError | undefined, handlerSees: ConnectError): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const release of this.#release) release(callerSees, handlerSees);
  }
}

/** What a handler sees that goes on after its call: it was answered, or nobody waits any longer. */
export const over = (): ConnectError => new ConnectError("the call is over", Code.Canceled);
