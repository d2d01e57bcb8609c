/** Latencies in buckets of at most 1.6 % width, from a microsecond to more than an hour. */
const perOctave = 64;
const octaves = 32;

export interface Quantiles {
  readonly count: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly maxMs: number;
}

export class Histogram {
  readonly #buckets = new Uint32Array(perOctave * octaves);
  #count = 0;
  #maxMs = 0;

  add(ms: number): void {
    const micros = Math.max(1, ms * 1000);
    const octave = 31 - Math.clz32(Math.min(micros, 0xffff_ffff));
    const within = Math.floor((micros / 2 ** octave - 1) * perOctave);
    const bucket = octave * perOctave + Math.min(within, perOctave - 1);
    this.#buckets[bucket] = (this.#buckets[bucket] ?? 0) + 1;
    this.#count++;
    if (ms > this.#maxMs) this.#maxMs = ms;
  }

  /** Undefined where nothing was measured. */
  quantiles(): Quantiles | undefined {
    if (this.#count === 0) return undefined;
    const at = (share: number): number => Math.min(this.#at(share), this.#maxMs);
    return {
      count: this.#count,
      p50Ms: at(0.5),
      p99Ms: at(0.99),
      p999Ms: at(0.999),
      maxMs: this.#maxMs,
    };
  }

  /** The upper end of the bucket in which that share of all is reached. */
  #at(share: number): number {
    const wanted = Math.ceil(this.#count * share);
    let seen = 0;
    for (let bucket = 0; bucket < this.#buckets.length; bucket++) {
      seen += this.#buckets[bucket] ?? 0;
      if (seen >= wanted) {
        const octave = Math.floor(bucket / perOctave);
        return (2 ** octave * (1 + ((bucket % perOctave) + 1) / perOctave)) / 1000;
      }
    }
    return this.#maxMs;
  }
}
