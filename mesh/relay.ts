/** Hands one side's values to the other, strictly one at a time, and releases whoever waits when their call ends. */
import { Code, ConnectError } from "@connectrpc/connect";

/** Keeps a stream that fails before anybody reads it from ending the process: its reader is told when it reads. */
export function toldLater<T>(stream: Promise<T>): Promise<T> {
  stream.catch(() => undefined);
  return stream;
}

const done: IteratorReturnResult<undefined> = { done: true, value: undefined };

/** Where a relay's source stands; told once, before the reader is. */
export interface RelayEvents {
  /** The source ended, or failed with `error`. Answers what the reader gets to see instead. */
  ended(error: unknown): ConnectError | undefined;
  /** The reader went away. */
  left(): void;
}

/**
 * Written by hand, as it is paid for once for every message: one promise, no race and no generator. The source is asked only when the
 * reader asks, so a sender waits for its receiver. One reader, one question at a time.
 */
export class Relay<A, B> implements AsyncIterableIterator<B, undefined> {
  readonly #source: AsyncIterator<A>;
  readonly #map: (value: A) => B;
  readonly #events: RelayEvents;
  #first: Promise<IteratorResult<B, undefined>> | undefined;
  #reject: ((error: Error) => void) | undefined;
  #resolve: ((result: IteratorReturnResult<undefined>) => void) | undefined;
  #over = false;
  #error: ConnectError | undefined;

  constructor(source: AsyncIterator<A>, map: (value: A) => B, events: RelayEvents) {
    this.#source = source;
    this.#map = map;
    this.#events = events;
  }

  /** Asks for the first value before the reader does. */
  start(): Promise<unknown> {
    this.#first = this.next();
    return this.#first;
  }

  next(): Promise<IteratorResult<B, undefined>> {
    if (this.#first !== undefined) {
      const first = this.#first;
      this.#first = undefined;
      return first;
    }
    if (this.#over)
      return this.#error === undefined ? Promise.resolve(done) : Promise.reject(this.#error);
    if (this.#reject !== undefined)
      return Promise.reject(
        new ConnectError("a stream has one reader that asks once at a time", Code.Internal),
      );
    let asked: Promise<IteratorResult<A>>;
    try {
      asked = this.#source.next();
    } catch (error) {
      asked = Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      asked.then(
        (result) => {
          if (this.#over) return;
          if (result.done === true) return this.#end(undefined);
          let value: B;
          try {
            value = this.#map(result.value);
          } catch (error) {
            this.#leaveSource();
            return this.#end(error);
          }
          this.#resolve = undefined;
          this.#reject = undefined;
          resolve({ done: false, value });
        },
        (error: unknown) => {
          if (!this.#over) this.#end(error ?? new Error("a stream failed without saying why"));
        },
      );
    });
  }

  /** The reader goes away early. */
  return(): Promise<IteratorReturnResult<undefined>> {
    if (!this.#over) {
      this.release(undefined);
      this.#events.left();
    }
    return Promise.resolve(done);
  }

  /** The call is over: a reader that waits, or that asks later, gets the error or the end; the source is let go. */
  release(error: ConnectError | undefined): void {
    if (this.#over) return;
    this.#leaveSource();
    this.#tell(error);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #end(error: unknown): void {
    this.#over = true;
    this.#tell(this.#events.ended(error));
  }

  #tell(error: ConnectError | undefined): void {
    const resolve = this.#resolve;
    const reject = this.#reject;
    this.#resolve = undefined;
    this.#reject = undefined;
    this.#over = true;
    this.#error = error;
    if (error === undefined) resolve?.(done);
    else reject?.(error);
  }

  /** Not waited for: a source may be in the middle of something that never ends. */
  #leaveSource(): void {
    this.#source.return?.().catch(() => undefined);
  }
}
