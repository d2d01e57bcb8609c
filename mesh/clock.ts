/** Time as a parameter: the real clock for processes, a manual one for tests. It must not know who asks. */

/** Ends what it was given for; calling it again does nothing. */
export type Cancel = () => void;

export interface Clock {
  /** Milliseconds since 1970-01-01 UTC. Never used for order. */
  now(): number;
  /** Milliseconds on a clock that never goes back; only differences mean something. */
  monotonic(): number;
  /** Runs `run` once, `ms` from now. Does not keep the process alive. */
  after(ms: number, run: () => void): Cancel;
  /** Runs `run` when the present turn of the event loop is done: where batches are sent. */
  afterTurn(run: () => void): void;
}

const maxTimerMs = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, run) {
    // A longer one would fire at once.
    if (ms > maxTimerMs) return chained(ms, run);
    const timer = setTimeout(run, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
  afterTurn: (run) => void setImmediate(run),
};

function chained(ms: number, run: () => void): Cancel {
  let cancel = systemClock.after(maxTimerMs, () => {
    cancel = systemClock.after(ms - maxTimerMs, run);
  });
  return () => cancel();
}

/** A time that is known, for libraries and for people. */
export const dateOf = (ms: number): Date => new Date(ms);

/** In milliseconds since 1970-01-01 UTC; NaN where it is none. */
export const timeOf = (text: string): number => Date.parse(text);

/** Runs `run` every `ms` until cancelled; a tick that takes long delays the next one. */
export function every(clock: Clock, ms: number, run: () => void): Cancel {
  let cancel = clock.after(ms, tick);
  function tick(): void {
    cancel = clock.after(ms, tick);
    run();
  }
  return () => cancel();
}

/** Resolves `ms` from now, or rejects with the signal's reason when that comes first. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const cancel = clock.after(ms, () => {
      signal?.removeEventListener("abort", abort);
      resolve();
    });
    function abort(): void {
      cancel();
      reject(signal?.reason as Error);
    }
    signal?.addEventListener("abort", abort, { once: true });
  });
}

interface Timer {
  dueMs: number;
  run: () => void;
}

/** A clock that stands until it is advanced. Turns are the event loop's own. */
export class ManualClock implements Clock {
  #nowMs: number;
  readonly #timers: Timer[] = [];

  constructor(nowMs = 1_700_000_000_000) {
    this.#nowMs = nowMs;
  }

  now(): number {
    return this.#nowMs;
  }

  monotonic(): number {
    return this.#nowMs;
  }

  after(ms: number, run: () => void): Cancel {
    const timer: Timer = { dueMs: this.#nowMs + Math.max(ms, 0), run };
    const place = this.#timers.findIndex((other) => other.dueMs > timer.dueMs);
    this.#timers.splice(place === -1 ? this.#timers.length : place, 0, timer);
    return () => {
      const at = this.#timers.indexOf(timer);
      if (at !== -1) this.#timers.splice(at, 1);
    };
  }

  afterTurn(run: () => void): void {
    setImmediate(run);
  }

  /** Moves time on, running what falls due, in order; what that arms runs too, where it falls due. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (let timer = this.#timers[0]; timer && timer.dueMs <= untilMs; timer = this.#timers[0]) {
      this.#timers.shift();
      this.#nowMs = timer.dueMs;
      timer.run();
    }
    this.#nowMs = untilMs;
  }
}
