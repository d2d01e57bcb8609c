/** The measured stretch of a load: counts, time and CPU at its begin and end. */
import { setTimeout as sleep } from "node:timers/promises";
import { CpuMeter } from "./cpu.ts";
import { Histogram } from "./histogram.ts";
import type { Measured } from "./job.ts";

const ownSeconds = (): number => {
  const usage = process.cpuUsage();
  return (usage.user + usage.system) / 1e6;
};

interface Mark {
  count: number;
  atMs: number;
  server: number | undefined;
  others: readonly number[];
  own: number;
}

export class Meter {
  readonly #cpu: CpuMeter | undefined;
  readonly #others: readonly CpuMeter[];
  #begin: Mark | undefined;
  #end: Mark | undefined;
  /** Work done so far; the load adds to it. */
  count = 0;
  readonly ack = new Histogram();
  readonly delivery = new Histogram();
  /** Latencies count for what was sent, or due, in here. */
  fromMs = Infinity;
  untilMs = Infinity;

  constructor(pid: number | undefined, otherPids: readonly number[] = []) {
    this.#cpu = pid === undefined ? undefined : new CpuMeter(pid);
    this.#others = otherPids.map((other) => new CpuMeter(other));
  }

  begin(): void {
    this.#begin = this.#mark();
    this.fromMs = this.#begin.atMs;
  }

  end(): void {
    this.#end = this.#mark();
    this.untilMs = this.#end.atMs;
  }

  counts(sentAtMs: number): boolean {
    return sentAtMs >= this.fromMs && sentAtMs < this.untilMs;
  }

  result(): Measured {
    if (this.#begin === undefined || this.#end === undefined)
      throw new Error("nothing was measured");
    const { server: before, others: othersBefore } = this.#begin;
    const { server: after, others: othersAfter } = this.#end;
    return {
      count: this.#end.count - this.#begin.count,
      seconds: (this.#end.atMs - this.#begin.atMs) / 1000,
      serverSeconds: before === undefined || after === undefined ? undefined : after - before,
      otherSeconds: othersAfter.map((seconds, at) => seconds - (othersBefore[at] ?? 0)),
      generatorSeconds: this.#end.own - this.#begin.own,
      ack: this.ack.quantiles(),
      delivery: this.delivery.quantiles(),
    };
  }

  #mark(): Mark {
    return {
      count: this.count,
      server: this.#cpu?.seconds(),
      others: this.#others.map((other) => other.seconds()),
      own: ownSeconds(),
      atMs: performance.now(),
    };
  }
}

/** Waits until `done`, but no longer than `limitMs`; answers whether it was. */
export async function waitUntil(done: () => boolean, limitMs: number): Promise<boolean> {
  const endMs = performance.now() + limitMs;
  while (!done()) {
    if (performance.now() >= endMs) return false;
    await sleep(5);
  }
  return true;
}

/** Runs a load through its phases, saying how it goes once a second. */
export async function measure(
  meter: Meter,
  phases: { warmMs: number; measureMs: number },
  progress: (text: string) => void,
): Promise<void> {
  let before = meter.count;
  const say = async (phase: string, ms: number): Promise<void> => {
    for (let leftMs = ms; leftMs > 0; leftMs -= 1000) {
      const slice = Math.min(1000, leftMs);
      await sleep(slice);
      progress(`${phase}: ${Math.round(((meter.count - before) * 1000) / slice)}/s`);
      before = meter.count;
    }
  };
  await say("warming up", phases.warmMs);
  meter.begin();
  await say("measuring", phases.measureMs);
  meter.end();
}

/** Opens many things, some at a time. */
export async function openAll<T>(
  count: number,
  atOnce: number,
  open: (index: number) => Promise<T>,
): Promise<T[]> {
  const opened: T[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < count; index = next++) opened[index] = await open(index);
  };
  await Promise.all(Array.from({ length: Math.min(count, atOnce) }, worker));
  return opened;
}
