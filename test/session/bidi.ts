/** One end of a two-way stream, as tests drive it: what it received is kept, and waited for without sleeping. */
import { ConnectError } from "@connectrpc/connect";
import { Pipe } from "../../mesh/pipe.ts";

type Call<I, O> = (
  requests: AsyncIterable<I>,
  options: { signal: AbortSignal },
) => AsyncIterable<O>;

export class Bidi<I extends object, O> {
  readonly received: O[] = [];
  /** Resolves with why it ended; undefined: just so. */
  readonly ended: Promise<ConnectError | undefined>;
  readonly #requests = new Pipe<I>(10_000);
  readonly #aborting = new AbortController();
  #reading: Promise<void> = Promise.resolve();
  #resume: () => void = () => undefined;

  constructor(call: Call<I, O>) {
    this.ended = this.#read(call(this.#requests, { signal: this.#aborting.signal }));
  }

  /** Whether the other end still takes requests. */
  get open(): boolean {
    return !this.#requests.ended;
  }

  send(request: I): void {
    if (!this.#requests.offer(request)) throw new Error("the stream takes no more");
  }

  /** Sends no more. */
  finish(): void {
    this.#requests.end();
  }

  abort(): void {
    this.#aborting.abort();
  }

  /** Reads nothing further until the answer is called. */
  pause(): () => void {
    this.#reading = new Promise((resolve) => (this.#resume = resolve));
    return () => this.#resume();
  }

  /** Waits until what was received passes; the test's own bound ends it. */
  async until(passes: (received: O[]) => boolean): Promise<void> {
    await eventually(() => passes(this.received));
  }

  async #read(responses: AsyncIterable<O>): Promise<ConnectError | undefined> {
    try {
      for await (const response of responses) {
        this.received.push(response);
        await this.#reading;
      }
      return undefined;
    } catch (error) {
      return ConnectError.from(error);
    }
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Lets the event loop turn until it is so, for a bounded while. */
export async function eventually(isSo: () => boolean): Promise<void> {
  for (const untilMs = performance.now() + 5_000; !isSo(); await turn())
    if (performance.now() > untilMs) throw new Error(`it did not become so: ${isSo.toString()}`);
}
