/** What every service hands to its composition root. */
import type { DescService } from "@bufbuild/protobuf";
import type { ServiceImpl, Transport } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Clock } from "./clock.ts";
import type { Random } from "./random.ts";

/** A service that was made: `start` before the first call, `close` after the last. */
export interface Running<S extends DescService> {
  readonly service: ServiceImpl<S>;
  /** Opens its streams to other services; they are tried again for as long as it runs. */
  start(): Promise<void>;
  /** Why it cannot serve now, a sentence each; empty: ready. */
  problems(): string[];
  /** Finishes what is under way and lets go of everything. */
  close(): Promise<void>;
}

/** What every service is given instead of reaching out for it. */
export interface Surroundings {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** For generated clients of other services. */
  transport(service: DescService): Transport;
}
