/** A clock that goes on to the next timer whenever the event loop has nothing else to do: hours take as long as what happens in them. */
import type { Cancel, Clock } from "../../../mesh/clock.ts";

interface Timer {
  readonly dueMs: number;
  readonly run: () => void;
}

export class IdleClock implements Clock {
  #nowMs = 1_700_000_000_000;
  /** The next one last. */
  readonly #timers: Timer[] = [];
  #armed = false;

  now(): number {
    return Math.floor(this.#nowMs);
  }

  monotonic(): number {
    return this.#nowMs;
  }

  after(ms: number, run: () => void): Cancel {
    const timer: Timer = { dueMs: this.#nowMs + Math.max(ms, 0), run };
    let [low, high] = [0, this.#timers.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const due = this.#timers[middle]?.dueMs ?? 0;
      if (due > timer.dueMs) low = middle + 1;
      else high = middle;
    }
    this.#timers.splice(low, 0, timer);
    this.#arm();
    return () => {
      const at = this.#timers.indexOf(timer);
      if (at !== -1) this.#timers.splice(at, 1);
    };
  }

  afterTurn(run: () => void): void {
    setImmediate(run);
  }

  #arm(): void {
    if (this.#armed || this.#timers.length === 0) return;
    this.#armed = true;
    setImmediate(() => {
      this.#armed = false;
      const next = this.#timers.pop();
      if (next === undefined) return;
      this.#nowMs = next.dueMs;
      next.run();
      this.#arm();
    });
  }
}
