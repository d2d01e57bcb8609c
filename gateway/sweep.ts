/** One timer for all connections: each is asked what time alone makes due, and what they need from storage is fetched for all at once. */
import type { Client } from "@connectrpc/connect";
import type { Logger } from "pino";
import { every } from "../mesh/clock.ts";
import type { Cancel, Clock } from "../mesh/clock.ts";
import type { Page, StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import type { GatewayConfig } from "./config.ts";
import type { Connections, Recipient } from "./connections.ts";
import type { DeliveryLinks } from "./delivery-links.ts";
import type { Meter } from "./meter.ts";
import { SharedPush } from "./pushes.ts";
import { readMs } from "./reads.ts";
import type { PresenceLinks } from "./watches.ts";

export interface Heartbeating {
  readonly userId: string;
  heartbeat(headSum: bigint | undefined): void;
}

interface Again {
  readonly recipient: Recipient;
  readonly conversationId: string;
  readonly fromSeq: number;
}

/** What connections asked for while they were swept. */
export class Round {
  readonly sums: Heartbeating[] = [];
  readonly agains: Again[] = [];

  /** Sends it a heartbeat with the sum of its user's heads. */
  heartbeatWithSum(one: Heartbeating): void {
    this.sums.push(one);
  }

  /** Pushes it the conversation's records from this one on, as storage has them. */
  pushAgain(recipient: Recipient, conversationId: string, fromSeq: number): void {
    this.agains.push({ recipient, conversationId, fromSeq });
  }
}

export interface SweepParts {
  readonly config: Pick<GatewayConfig, "heartbeatMs">;
  readonly clock: Clock;
  readonly log: Logger;
  readonly meter: Meter;
  readonly connections: Connections;
  readonly delivery: DeliveryLinks;
  readonly presence: PresenceLinks;
  readonly storage: Client<typeof StorageService>;
}

const sweepMaxMs = 1_000;
/** So that an answer to each heartbeat comes well before the silence is too long. */
const sweepsPerHeartbeat = 4;
const usersAtOnce = 500;
const pagesAtOnce = 16;
const recordsAgainMax = 50;

function* shares<T>(values: readonly T[], most: number): Generator<T[]> {
  for (let at = 0; at < values.length; at += most) yield values.slice(at, at + most);
}

export class Sweep {
  readonly #parts: SweepParts;
  #cancel: Cancel | undefined;

  constructor(parts: SweepParts) {
    this.#parts = parts;
  }

  start(): void {
    const { clock, config } = this.#parts;
    const sweepMs = Math.min(sweepMaxMs, config.heartbeatMs / sweepsPerHeartbeat);
    this.#cancel = every(clock, sweepMs, () => this.#sweep());
  }

  close(): void {
    this.#cancel?.();
  }

  #sweep(): void {
    const { clock, connections, delivery, presence } = this.#parts;
    const nowMs = clock.monotonic();
    const round = new Round();
    for (const recipient of connections.all()) recipient.tick(nowMs, round);
    delivery.expire(nowMs);
    presence.expire(nowMs);
    for (const some of shares(round.sums, usersAtOnce)) void this.#tellSums(some);
    for (const some of shares(round.agains, pagesAtOnce)) void this.#pushAgain(some);
  }

  /** A heartbeat goes out in any case, without the sum where there is none to be had. */
  async #tellSums(some: readonly Heartbeating[]): Promise<void> {
    const userIds = [...new Set(some.map(({ userId }) => userId))];
    const known = new Map<string, bigint>();
    try {
      const { sums } = await this.#parts.storage.headSums({ userIds }, { timeoutMs: readMs });
      userIds.forEach((userId, at) => {
        const sum = sums[at];
        if (sum !== undefined) known.set(userId, sum);
      });
    } catch (error) {
      this.#parts.log.warn(
        { err: error, users: userIds.length },
        "heartbeats go without head sums",
      );
    }
    for (const one of some) one.heartbeat(known.get(one.userId));
  }

  async #pushAgain(some: readonly Again[]): Promise<void> {
    const { clock, log, meter, storage } = this.#parts;
    const pages = some.map(({ recipient, conversationId, fromSeq }): Page => ({
      $typeName: "parley.storage.v1.Page",
      conversationId,
      userId: recipient.userId,
      afterSeq: fromSeq - 1,
      beforeSeq: fromSeq + recordsAgainMax,
      limit: recordsAgainMax,
    }));
    try {
      const response = await storage.read({ pages }, { timeoutMs: readMs });
      const nowMs = clock.monotonic();
      response.pages.forEach(({ found, records, floorSeq }, at) => {
        const again = some[at];
        if (again === undefined) return;
        const { recipient, conversationId, fromSeq } = again;
        if (!found) recipient.acked(conversationId, Infinity);
        records.forEach((record, place) => {
          const $typeName = "parley.session.v1.RecordPayload";
          const seq = Math.max(fromSeq, floorSeq) + place;
          const value = { $typeName, conversationId, seq, record } as const;
          meter.pushesAgain.add();
          recipient.push(new SharedPush({ case: "record", value }), nowMs);
        });
      });
    } catch (error) {
      const conversationIds = some.map(({ conversationId }) => conversationId);
      log.warn({ err: error, conversationIds }, "what was not acked could not be pushed again");
    }
  }
}
