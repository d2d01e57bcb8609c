/** What scenarios have in common: how long and how much, servers, loads on them. */
import { addFaults, noFaults } from "./check.ts";
import type { Job, JobResult, LoadResult, Measured, PairsJob, Target } from "./job.ts";
import type { Observed, Serving } from "./processes.ts";
import { perServerSecond, type Goal, type Row } from "./report.ts";

/** How long and how much. */
export interface Scale {
  readonly warmMs: number;
  readonly measureMs: number;
  /** How often relay and Parley take turns. */
  readonly rounds: number;
  /** How often servers that are observed are started anew, and how long each load on one lasts. */
  readonly observing: {
    readonly rounds: number;
    readonly metricsSeconds: number;
    readonly tracesSeconds: number;
  };
  readonly idleConnections: number;
  readonly settleMs: number;
  readonly growth: {
    readonly senders: number;
    readonly receiversPerSender: number;
    readonly messages: number;
    readonly roundMessages: number;
    readonly roundSyncs: number;
  };
}

export const fullScale = (seconds: number): Scale => ({
  warmMs: 2000,
  measureMs: seconds * 1000,
  rounds: 3,
  observing: { rounds: 3, metricsSeconds: 60, tracesSeconds: 120 },
  idleConnections: 10_000,
  settleMs: 15_000,
  growth: {
    senders: 200,
    receiversPerSender: 50,
    messages: 1_000_000,
    roundMessages: 30_000,
    roundSyncs: 400,
  },
});

export const quickScale = (seconds: number): Scale => ({
  warmMs: 1000,
  measureMs: seconds * 1000,
  rounds: 1,
  observing: { rounds: 1, metricsSeconds: 15, tracesSeconds: 70 },
  idleConnections: 2000,
  settleMs: 3000,
  growth: {
    senders: 100,
    receiversPerSender: 20,
    messages: 100_000,
    roundMessages: 10_000,
    roundSyncs: 100,
  },
});

/** What a scenario may use. */
export interface Stage {
  readonly scale: Scale;
  /** Names a run's users apart from all others'. */
  nextRun(): string;
  relay(): Promise<Serving>;
  /** A server with an empty store, and these settings, or the one whose address was given. */
  parley(settings?: Readonly<Record<string, string>>): Promise<Serving>;
  /** The same, always one of its own, in which being looked at goes on and off. */
  observed(settings: Readonly<Record<string, string>>): Promise<Observed>;
  generate(job: Job, what: string): Promise<JobResult>;
}

export interface Outcome {
  readonly rows: Row[];
  readonly goals: Goal[];
}

export const directLoads = [
  { connections: 200, window: 16, goal: 0.8 },
  { connections: 2000, window: 1, goal: 0.2 },
] as const;

export async function using<T>(
  serving: Promise<Serving>,
  use: (target: Target) => Promise<T>,
): Promise<T> {
  const { target, stop } = await serving;
  try {
    return await use(target);
  } finally {
    await stop();
  }
}

export async function load(stage: Stage, job: Job, what: string): Promise<LoadResult> {
  const result = await stage.generate(job, what);
  if (result.kind !== "load") throw new Error(`${what}: an answer of the wrong kind`);
  return result;
}

export const phases = (stage: Stage): Pick<PairsJob, "run" | "warmMs" | "measureMs"> => ({
  run: stage.nextRun(),
  warmMs: stage.scale.warmMs,
  measureMs: stage.scale.measureMs,
});

export const pairsJob = (
  stage: Stage,
  target: Target,
  of: { connections: number; window: number },
): PairsJob => ({
  kind: "pairs",
  target,
  ...phases(stage),
  connections: of.connections,
  pace: { window: of.window },
});

export const ratio = (one: number | undefined, other: number | undefined): number | undefined =>
  one === undefined || other === undefined || other === 0 ? undefined : one / other;

/** The result with the median of messages for a CPU-second; faults of all. */
export function medianOf(results: LoadResult[]): LoadResult {
  const rate = ({ measured }: LoadResult): number =>
    perServerSecond(measured) ?? measured.count / measured.seconds;
  const middle = results.toSorted((one, other) => rate(one) - rate(other))[results.length >> 1];
  if (middle === undefined) throw new Error("nothing was measured");
  const faults = noFaults();
  for (const result of results) addFaults(faults, result.faults);
  return { ...middle, faults };
}

export const row = (scenario: string, what: string, result: LoadResult): Row => ({
  scenario,
  what,
  measured: result.measured,
  faults: result.faults,
  residentBytes: result.residentBytes,
  note: boundNote(result.measured),
});

/** Says so where the generator's core was full: the rate is then the generator's, the CPU figures still the server's. */
function boundNote(measured: Measured): string | undefined {
  const { generatorSeconds, seconds, serverSeconds } = measured;
  if (generatorSeconds < 0.95 * seconds || measured.ack === undefined) return undefined;
  if (serverSeconds === undefined || serverSeconds > 0.9 * seconds) return undefined;
  return "the generator was the limit, not the server";
}
