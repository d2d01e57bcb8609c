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

const boundMs = 15_000;

/** Lets the event loop turn, after many turns with a pause: what is waited for may need the processor. */
const turned = (before: number): Promise<void> =>
  new Promise((go) => void (before < 500 ? setImmediate(go) : setTimeout(go, 2)));

/** Lets the event loop turn until it is so, for a bounded while. */
export async function eventually(isSo: () => boolean): Promise<void> {
  const untilMs = performance.now() + boundMs;
  for (let turns = 0; !isSo(); turns += 1) {
    if (performance.now() > untilMs) throw new Error(`it did not become so: ${isSo.toString()}`);
    await turned(turns);
  }
}
