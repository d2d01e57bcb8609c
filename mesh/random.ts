/** Chance and ids as parameters. */
import { randomBytes } from "node:crypto";

export interface Random {
  /** 0 <= x < 1. */
  unit(): number;
  bytes(length: number): Uint8Array;
}

export const systemRandom: Random = {
  unit: () => Math.random(),
  bytes: (length) => randomBytes(length),
};

/** The same numbers for the same seed (mulberry32, a public-domain generator by Tommy Ettinger). For tests only. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const unit = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
  return { unit, bytes: (length) => Uint8Array.from({ length }, () => Math.floor(unit() * 256)) };
}

/** An id that nobody else has: 16 random bytes as 22 characters of base64url. */
export function newId(random: Random): string {
  return Buffer.from(random.bytes(16)).toString("base64url");
}
