/** What every service hands to its composition root. */
import type { DescService } from "@bufbuild/protobuf";
import type { ServiceImpl, Transport } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Clock } from "./clock.ts";
import type { Identity } from "./identity.ts";
import type { Metrics } from "./metrics.ts";
import type { Peers } from "./peers.ts";
import type { Pins } from "./pins.ts";
import type { Random } from "./random.ts";
import type { Tracer } from "./trace.ts";

/** A service that was made: `start` before the first call, `close` after the last. */
export interface Running<S extends DescService> {
  readonly service: ServiceImpl<S>;
  /** Opens its streams to other services; they are tried again for as long as it runs. */
  start(): Promise<void>;
  /** Why it cannot serve now, a sentence each; empty: ready. */
  problems(): string[];
  /** The process is announced as draining: what is on it goes elsewhere. Resolves once that is done, or after `boundMs`. */
  drain?(boundMs: number): Promise<unknown>;
  /** Shards that operators move to it: whoever announces the process announces them. */
  readonly pins?: Pins;
  /** Finishes what is under way and lets go of everything. */
  close(): Promise<void>;
}

/** What every service is given instead of reaching out for it. */
export interface Surroundings {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Undefined: no message is followed. */
  readonly tracer?: Tracer | undefined;
  /** This life of the process. */
  readonly identity: Identity;
  /** For generated clients of a service of which any instance does (storage). */
  transport(service: DescService): Transport;
  /** The instances of a service, for clients that choose by what they want (users and shards are each at one instance). */
  peers(service: DescService): Peers;
}
