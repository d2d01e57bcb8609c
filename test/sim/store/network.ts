/** The ways between clients and nodes: every message is late by chance, some are lost, and a way can be cut in one direction. */
import type { Clock } from "../../../mesh/clock.ts";
import type { Random } from "../../../mesh/random.ts";

/** Chances are of one message or one request. */
export interface Weather {
  readonly leastMs: number;
  readonly mostMs: number;
  readonly lost: number;
  /** So slow that whoever waits has given up, up to `slowMs`. */
  readonly slow: number;
  readonly slowMs: number;
  /** A replica answers that it could not. */
  readonly refused: number;
  /** A coordinator dies within a write, of which some replicas have heard and some have not. */
  readonly halfway: number;
  /** What a replica missed is not told to it later. */
  readonly hintLost: number;
}

export const calm: Weather = {
  leastMs: 0.2,
  mostMs: 1,
  lost: 0,
  slow: 0,
  slowMs: 0,
  refused: 0,
  halfway: 0,
  hintLost: 0,
};

export const stormy: Weather = {
  leastMs: 0.2,
  mostMs: 40,
  lost: 0.05,
  slow: 0.05,
  slowMs: 20_000,
  refused: 0.03,
  halfway: 0.05,
  hintLost: 0.3,
};

/** Much is lost and nothing of it is told later. */
export const gale: Weather = {
  ...stormy,
  lost: 0.2,
  slow: 0.02,
  refused: 0.01,
  halfway: 0.02,
  hintLost: 1,
};

export class Network {
  weather: Weather = calm;
  readonly clock: Clock;
  readonly #random: Random;
  /** One-way, with the time of each cut. */
  readonly #cuts = new Map<string, number>();
  /** What went wrong so far, by kind. */
  readonly faults = new Map<string, number>();

  constructor(clock: Clock, random: Random) {
    this.clock = clock;
    this.#random = random;
  }

  /** True with the chance of that fault, which is then counted. */
  happens(fault: "lost" | "slow" | "refused" | "halfway" | "hintLost"): boolean {
    const chance = this.weather[fault];
    if (chance === 0 || this.#random.unit() >= chance) return false;
    this.count(fault);
    return true;
  }

  count(fault: string): void {
    this.faults.set(fault, (this.faults.get(fault) ?? 0) + 1);
  }

  /** 0 <= x < bound, whole. */
  below(bound: number): number {
    return Math.floor(this.#random.unit() * bound);
  }

  cut(from: string, to: string): void {
    this.count("cut");
    this.#cuts.set(`${from} ${to}`, this.clock.monotonic());
  }

  heal(): void {
    this.#cuts.clear();
  }

  cutSinceMs(from: string, to: string): number | undefined {
    return this.#cuts.get(`${from} ${to}`);
  }

  send(from: string, to: string, arrives: () => void): void {
    const { leastMs, mostMs, slowMs } = this.weather;
    const ms = leastMs + this.#random.unit() * (mostMs - leastMs);
    if (from === to) {
      this.clock.after(leastMs, arrives);
      return;
    }
    if (this.happens("lost")) return;
    const late = this.happens("slow") ? this.#random.unit() * slowMs : 0;
    this.clock.after(ms + late, () => {
      if (this.#cuts.has(`${from} ${to}`)) this.count("lost by a cut");
      else arrives();
    });
  }
}
