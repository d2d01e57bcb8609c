/** Rendezvous hashing: which of several instances a key falls to. Only keys of an instance that came or went move. */
import { hash32 } from "./hash.ts";

/** The finalizer of MurmurHash3: every bit of the input changes about half of the output's. */
function mixed(value: number): number {
  let hash = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/**
 * A set of instances that keys are spread over: a key falls to the id with the highest hash of both (Thaler and Ravishankar, "A Name-Based
 * Mapping Scheme for Rendezvous", 1996). Whoever knows the same ids gives the same answer. Made anew whenever the set changes.
 */
export class Ring {
  /** Each once, in order. */
  readonly ids: readonly string[];
  readonly #hashes: readonly number[];

  constructor(ids: Iterable<string>) {
    this.ids = [...new Set(ids)].sort();
    this.#hashes = this.ids.map(hash32);
  }

  /** Undefined where there are no ids. */
  of(key: string): string | undefined {
    const { ids } = this;
    if (ids.length < 2) return ids[0];
    const keyHash = hash32(key);
    let best = 0;
    let bestScore = -1;
    for (let at = 0; at < ids.length; at += 1) {
      const score = mixed((this.#hashes[at] ?? 0) ^ keyHash);
      if (score <= bestScore) continue;
      best = at;
      bestScore = score;
    }
    return ids[best];
  }
}
