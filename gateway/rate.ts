/** How fast a device may send. Pure: it is told the time. */

export interface RateLimits {
  readonly ratePerSecond: number;
  readonly bytesPerSecond: number;
}

/** What may be used at once, in seconds' worth. */
const burstSeconds = 2;

/** Two buckets, one of frames, one of bytes, that fill at an even rate. */
export class TokenBucket {
  #frames: number;
  #bytes: number;
  #atMs: number;
  readonly #limits: RateLimits;

  constructor(nowMs: number, limits: RateLimits) {
    this.#limits = limits;
    this.#frames = limits.ratePerSecond * burstSeconds;
    this.#bytes = limits.bytesPerSecond * burstSeconds;
    this.#atMs = nowMs;
  }

  /** False where there is not that much left. */
  take(nowMs: number, frames: number, bytes: number): boolean {
    const { ratePerSecond, bytesPerSecond } = this.#limits;
    const seconds = (nowMs - this.#atMs) / 1_000;
    this.#atMs = nowMs;
    this.#frames = Math.min(ratePerSecond * burstSeconds, this.#frames + seconds * ratePerSecond);
    this.#bytes = Math.min(bytesPerSecond * burstSeconds, this.#bytes + seconds * bytesPerSecond);
    if (frames > this.#frames || bytes > this.#bytes) return false;
    this.#frames -= frames;
    this.#bytes -= bytes;
    return true;
  }
}
