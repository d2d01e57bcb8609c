/** What the benchmark asks of a server in which being looked at goes on and off, what comes back, and what that says. */
import { intervalOf, type Interval } from "./interval.ts";

/** How often all is counted while metrics are on. */
export const countedTimes = 10;

/** A stretch of a server's time. */
export interface Slice {
  /** Whether it was looked at. */
  readonly on: boolean;
  readonly seconds: number;
  readonly count: number;
  readonly cpuSeconds: number;
}

export interface Slicing {
  readonly kind: "begin";
  /** What goes on and off; the other one stays on. */
  readonly what: "metrics" | "traces";
  readonly sliceMs: number;
  /** After each change, what does not count. */
  readonly settleMs: number;
}

export type ObservedMessage =
  | { readonly kind: "listening"; readonly port: number }
  /** `cpuSeconds`: of the process so far. */
  | { readonly kind: "slices"; readonly slices: readonly Slice[]; readonly cpuSeconds: number };

/** Both ends are this program: the tag is enough. */
export const isSlicing = (value: unknown): value is Slicing =>
  typeof value === "object" && value !== null && "kind" in value && value.kind === "begin";

/** Four that follow on one another, two of each kind, so that what drifts is the same for both. */
export interface Block {
  readonly on: Slice;
  readonly off: Slice;
}

/** `by` -1: without the other one. */
const added = (one: Slice, other: Slice, by: 1 | -1 = 1): Slice => ({
  on: one.on,
  seconds: one.seconds + by * other.seconds,
  count: one.count + by * other.count,
  cpuSeconds: one.cpuSeconds + by * other.cpuSeconds,
});

const sumOf = (slices: readonly Slice[], on: boolean): Slice =>
  slices
    .filter((slice) => slice.on === on)
    .reduce((sum, slice) => added(sum, slice), { on, seconds: 0, count: 0, cpuSeconds: 0 });

/** Those of the time after `warmSeconds` of load, but for the last, in which it ends. */
export function blocksOf(slices: readonly Slice[], warmSeconds: number): Block[] {
  const blocks: Block[] = [];
  let loadedSeconds = 0;
  for (let at = 0; at + 8 <= slices.length; at += 4) {
    const four = slices.slice(at, at + 4);
    const block = { on: sumOf(four, true), off: sumOf(four, false) };
    const loaded = block.on.count > 0 && block.off.count > 0;
    if (loaded && loadedSeconds >= warmSeconds) blocks.push(block);
    if (loaded) loadedSeconds += block.on.seconds + block.off.seconds;
  }
  return blocks;
}

const microsOf = ({ cpuSeconds, count }: Slice): number => (cpuSeconds / count) * 1e6;

const totalOf = (blocks: readonly Block[]): Block => ({
  on: sumOf(
    blocks.map(({ on }) => on),
    true,
  ),
  off: sumOf(
    blocks.map(({ off }) => off),
    false,
  ),
});

/** Of a figure of all blocks together, by how it changes where one of them is left out (the jackknife). */
function ofAll(blocks: readonly Block[], figure: (total: Block) => number): Interval | undefined {
  const total = totalOf(blocks);
  const all = figure(total);
  const without = blocks.map(({ on, off }) =>
    figure({ on: added(total.on, on, -1), off: added(total.off, off, -1) }),
  );
  return intervalOf(without.map((other) => blocks.length * all - (blocks.length - 1) * other));
}

/** CPU for a message with nothing on. */
export const bareMicros = (blocks: readonly Block[]): number => microsOf(totalOf(blocks).off);

/** What a message costs more, of what it costs with nothing on. */
export const moreOf = (blocks: readonly Block[]): Interval | undefined =>
  ofAll(blocks, ({ on, off }) => microsOf(on) / microsOf(off) - 1);

/** CPU for one of `perSecond` things that are done only while it is on, in microseconds. */
export const microsForEach = (blocks: readonly Block[], perSecond: number): Interval | undefined =>
  ofAll(blocks, ({ on, off }) => {
    const more = on.cpuSeconds - (off.cpuSeconds / off.count) * on.count;
    return (more / (perSecond * on.seconds)) * 1e6;
  });

/** Costs that come together and were measured apart. */
export function together(parts: readonly Interval[]): Interval {
  const mean = parts.reduce((sum, part) => sum + part.mean, 0);
  const half = Math.hypot(...parts.map(({ mean: middle, high }) => high - middle));
  return { mean, low: mean - half, high: mean + half };
}

export const scaled = ({ mean, low, high }: Interval, by: number): Interval => ({
  mean: mean * by,
  low: low * by,
  high: high * by,
});
