/** What the benchmark asks of its load generator's process and what comes back. */
import type { Faults } from "./check.ts";
import type { Quantiles } from "./histogram.ts";

/** The server that is put under load. */
export interface Target {
  readonly host: string;
  readonly port: number;
  /** Signs the users' tokens; unused by the relay. */
  readonly secret: string;
  /** Whose CPU and memory count, with all its children; undefined: not measured. */
  readonly pid: number | undefined;
  /** Other gateways of the same service: connections take turns between all of them. */
  readonly others?: readonly { readonly host: string; readonly port: number }[];
  /** Other processes whose CPU is measured, each by itself. */
  readonly otherPids?: readonly number[];
}

interface Load {
  readonly target: Target;
  /** Makes this run's user ids its own. */
  readonly run: string;
  readonly warmMs: number;
  readonly measureMs: number;
}

export interface RelayJob extends Load {
  readonly kind: "relay";
  readonly connections: number;
  readonly window: number;
}

/** Closed loop with a window, or open loop with a rate. */
export interface PairsJob extends Load {
  readonly kind: "pairs";
  readonly connections: number;
  readonly pace: { readonly window: number } | { readonly perSecond: number };
}

export interface GroupJob extends Load {
  readonly kind: "group";
  readonly members: number;
  readonly senders: number;
  readonly window: number;
}

export interface IdleJob {
  readonly kind: "idle";
  readonly target: Target;
  readonly run: string;
  readonly protocol: "relay" | "parley";
  readonly connections: number;
  readonly settleMs: number;
}

export interface GrowthJob {
  readonly kind: "growth";
  readonly target: Target;
  readonly run: string;
  readonly senders: number;
  readonly receiversPerSender: number;
  readonly window: number;
  /** Messages in all before the second measurement. */
  readonly messages: number;
  /** Messages in one measured round, and how many rounds. */
  readonly roundMessages: number;
  readonly rounds: number;
  /** Syncs in one measured round. */
  readonly roundSyncs: number;
}

export type Job = RelayJob | PairsJob | GroupJob | IdleJob | GrowthJob;

/** One measured piece of work. */
export interface Measured {
  /** Messages delivered, or copies, or syncs. */
  readonly count: number;
  readonly seconds: number;
  /** CPU of the server, all its processes. */
  readonly serverSeconds: number | undefined;
  /** CPU of each of the target's other processes, in that order. */
  readonly otherSeconds?: readonly number[];
  /** CPU of the generator. */
  readonly generatorSeconds: number;
  /** From (scheduled) sending to `sent`. */
  readonly ack: Quantiles | undefined;
  /** From (scheduled) sending to the other side's having it; for a sync, to its end. */
  readonly delivery: Quantiles | undefined;
}

export interface LoadResult {
  readonly kind: "load";
  readonly measured: Measured;
  readonly faults: Faults;
  readonly residentBytes: number | undefined;
}

export interface IdleResult {
  readonly kind: "idle";
  readonly connections: number;
  readonly residentBytesEach: number | undefined;
  readonly anonymousBytesEach: number | undefined;
  readonly residentBytes: number | undefined;
  readonly faults: Faults;
}

/** The same work on a store that is all but empty and on a full one. */
export interface Grown {
  readonly empty: Measured;
  readonly full: Measured;
}

export interface GrowthResult {
  readonly kind: "growth";
  readonly append: Grown;
  /** A device that knows nothing asks for everything. */
  readonly firstSync: Grown;
  /** A device that knows everything asks again. */
  readonly laterSync: Grown;
  readonly load: Measured;
  readonly messages: number;
  readonly conversations: number;
  readonly faults: Faults;
  readonly residentBytes: number | undefined;
}

export type JobResult = LoadResult | IdleResult | GrowthResult;

/** From the generator to its parent. */
export type GeneratorMessage =
  | { readonly kind: "progress"; readonly text: string }
  | { readonly kind: "result"; readonly result: JobResult }
  | { readonly kind: "error"; readonly message: string };

function kindOf(value: unknown): unknown {
  return typeof value === "object" && value !== null && "kind" in value ? value.kind : undefined;
}

/** Both ends are this program: the tag is enough. */
export function isJob(value: unknown): value is Job {
  return ["relay", "pairs", "group", "idle", "growth"].some((kind) => kind === kindOf(value));
}

export function isGeneratorMessage(value: unknown): value is GeneratorMessage {
  return ["progress", "result", "error"].some((kind) => kind === kindOf(value));
}
