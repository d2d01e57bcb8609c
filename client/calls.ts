/**
 * Calls that the app waits for. They outlive a connection: asked again after a resume and after a refusal that says when,
 * until they are answered or their time is over. Only what may be asked twice comes here.
 */
import { Code, ConnectError } from "@connectrpc/connect";
import type { Failure } from "../proto/gen/parley/v1/frame_pb.ts";
import type { Answer, Ask } from "./frames.ts";
import type { Requests } from "./requests.ts";
import {
  jitteredBackoffMs,
  type Cancel,
  type ClientClock,
  type ClientRandom,
} from "./surroundings.ts";

interface Call {
  readonly ask: Ask;
  /** How it is asked from the second try on. */
  readonly again: () => Ask;
  readonly settle: (answer: Answer) => void;
  readonly fail: (error: ConnectError) => void;
  cancel: Cancel;
  underWay: boolean;
  tries: number;
  refusals: number;
}

/** Whether another try makes sense, as it is. */
export function isRetryable(failure: { code: number; retryAfterMs: number }): boolean {
  return failure.retryAfterMs > 0 || retryableCodes.has(failure.code);
}

const retryableCodes = new Set<number>([
  Code.Canceled,
  Code.DeadlineExceeded,
  Code.ResourceExhausted,
  Code.Aborted,
  Code.Unavailable,
]);

/** What a person waits for is tried at least so often, where the server does not say that it needs longer. */
const retryCapMs = 5_000;

/** When to try again after refusal number `refusals`. */
export function retryDelayMs(retryAfterMs: number, refusals: number, random: ClientRandom): number {
  return Math.max(retryAfterMs, jitteredBackoffMs(refusals, random.unit(), 200, retryCapMs));
}

export function errorOf(failure: Failure): ConnectError {
  return new ConnectError(failure.message, failure.code);
}

/** What a wait for the connection ends with. */
export function stoppedError(reason: string): ConnectError {
  return new ConnectError(`the connection is stopped: ${reason}`, Code.Unavailable);
}

export class Calls {
  readonly #requests: Requests;
  readonly #clock: ClientClock;
  readonly #random: ClientRandom;
  readonly #callMs: number;
  readonly #max: number;
  readonly #calls = new Set<Call>();

  constructor(
    requests: Requests,
    clock: ClientClock,
    random: ClientRandom,
    limits: { callMs: number; callsMax: number },
  ) {
    this.#requests = requests;
    this.#clock = clock;
    this.#random = random;
    this.#callMs = limits.callMs;
    this.#max = limits.callsMax;
  }

  /**
   * Asks; `pick` takes the wanted answer out of its frame, before any later frame is looked at. Rejects with a ConnectError.
   */
  async call<Value>(
    ask: Ask,
    pick: (answer: Answer) => Value | undefined,
    again = (): Ask => ask,
  ): Promise<Value> {
    if (this.#calls.size >= this.#max) {
      throw new ConnectError(
        `${this.#max} calls are under way: wait for some of them`,
        Code.ResourceExhausted,
      );
    }
    return this.#begin(ask, pick, again);
  }

  /** A link is live. */
  up(): void {
    for (const call of this.#calls) if (!call.underWay) this.#ask(call);
  }

  /** The link is gone. */
  down(): void {
    for (const call of this.#calls) call.underWay = false;
  }

  /** Ends all calls. */
  close(error: ConnectError): void {
    for (const call of [...this.#calls]) call.fail(error);
  }

  #begin<Value>(
    ask: Ask,
    pick: (answer: Answer) => Value | undefined,
    again: () => Ask,
  ): Promise<Value> {
    return new Promise((resolve, reject) => {
      const end = (): void => {
        call.cancel();
        this.#calls.delete(call);
      };
      const call: Call = {
        ask,
        again,
        settle: (answer) => {
          end();
          const value = pick(answer);
          const wrong = `${answer.case ?? "nothing"} answered ${ask.case}`;
          if (value === undefined) reject(new ConnectError(wrong, Code.Internal));
          else resolve(value);
        },
        fail: (error) => {
          end();
          reject(error);
        },
        cancel: this.#clock.after(this.#callMs, () =>
          call.fail(new ConnectError(`no answer in ${this.#callMs} ms`, Code.DeadlineExceeded)),
        ),
        underWay: false,
        tries: 0,
        refusals: 0,
      };
      this.#calls.add(call);
      if (this.#requests.live) this.#ask(call);
    });
  }

  #ask(call: Call): void {
    call.underWay = true;
    call.tries += 1;
    this.#requests.ask(call.tries === 1 ? call.ask : call.again(), (answer) => {
      call.underWay = false;
      if (!this.#calls.has(call)) return;
      if (answer.case !== "failure") call.settle(answer);
      else if (isRetryable(answer.value)) this.#askLater(call, answer.value.retryAfterMs);
      else call.fail(errorOf(answer.value));
    });
  }

  #askLater(call: Call, retryAfterMs: number): void {
    const delayMs = retryDelayMs(retryAfterMs, call.refusals, this.#random);
    const { tries } = call;
    call.refusals += 1;
    call.underWay = true;
    this.#clock.after(delayMs, () => {
      // A resume in the meantime has asked already.
      if (!this.#calls.has(call) || call.tries !== tries) return;
      call.underWay = false;
      if (this.#requests.live) this.#ask(call);
    });
  }
}
