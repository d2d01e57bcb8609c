/** How much a user or a remote address may do: so much in a time, so much at once. What does not fit is told when to come again. */
import type { Clock } from "../mesh/clock.ts";

interface Bucket {
  tokens: number;
  atMs: number;
}

/** Token buckets by key. The keys least lately used are forgotten beyond a bound. */
export class Quota {
  readonly #buckets = new Map<string, Bucket>();
  readonly #clock: Clock;
  readonly #perSecond: number;
  readonly #burst: number;
  readonly #keysMax: number;

  constructor(clock: Clock, perSecond: number, burst: number, keysMax = 20_000) {
    this.#clock = clock;
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#keysMax = keysMax;
  }

  /** Takes one of the key's tokens: 0; or takes nothing and says in how many milliseconds there is one. */
  take(key: string): number {
    const nowMs = this.#clock.monotonic();
    const bucket = this.#buckets.get(key) ?? { tokens: this.#burst, atMs: nowMs };
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    if (this.#buckets.size > this.#keysMax) {
      const [oldest] = this.#buckets.keys();
      if (oldest !== undefined) this.#buckets.delete(oldest);
    }
    const gained = ((nowMs - bucket.atMs) / 1_000) * this.#perSecond;
    bucket.tokens = Math.min(this.#burst, bucket.tokens + gained);
    bucket.atMs = nowMs;
    if (bucket.tokens < 1) return Math.ceil(((1 - bucket.tokens) / this.#perSecond) * 1_000);
    bucket.tokens -= 1;
    return 0;
  }
}

/** Counts what is under way by key. */
export class Places {
  readonly #taken = new Map<string, number>();
  readonly #max: number;

  constructor(max: number) {
    this.#max = max;
  }

  /** Whether all are taken. */
  full(key: string): boolean {
    return (this.#taken.get(key) ?? 0) >= this.#max;
  }

  /** Gives the place back when called, once; undefined: all are taken. */
  take(key: string): (() => void) | undefined {
    const taken = this.#taken.get(key) ?? 0;
    if (taken >= this.#max) return undefined;
    this.#taken.set(key, taken + 1);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const left = (this.#taken.get(key) ?? 1) - 1;
      if (left === 0) this.#taken.delete(key);
      else this.#taken.set(key, left);
    };
  }
}
