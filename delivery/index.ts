/** Delivery: order, duplicates, commit, fan-out, cursors. */
import { type ConnectError, createClient } from "@connectrpc/connect";
import { Committer, type CommitterEvents, type Pace } from "./committer.ts";
import type { Draft } from "./draft.ts";
import type { DeliveryConfig } from "./config.ts";
import { Fanout } from "./fanout.ts";
import { Inspection } from "./inspection.ts";
import { Operations } from "./operations.ts";
import { Owner } from "./owner.ts";
import { Ownership } from "./ownership.ts";
import { Placement } from "./placement.ts";
import { DeliveryHandlers } from "./service.ts";
import { Pins } from "../mesh/pins.ts";
import { every, type Cancel } from "../mesh/clock.ts";
import type { Running, Surroundings } from "../mesh/lifecycle.ts";
import type { ShardRegistry } from "../mesh/shards.ts";
import type { DeliveryService } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";

export { type DeliveryConfig, deliveryConfig } from "./config.ts";
export type { Pace } from "./committer.ts";

const sweepMs = 10_000;
const saidEveryMs = 10_000;
/** How long batches under way may take when the process closes. */
const closeMs = 5_000;

/** For a store in the same process. */
export const embeddedPace: Pace = { batchesMax: 1, cursorLingerMs: 0, spacingMs: 0 };
/** For a store that is some round trips away, and where each move of a cursor is several writes. */
export const clusterPace: Pace = { batchesMax: 8, cursorLingerMs: 100, spacingMs: 40 };

export function createDelivery(
  surroundings: Surroundings,
  config: DeliveryConfig,
  shards: ShardRegistry,
  pace: Pace,
): Running<typeof DeliveryService> {
  return new Delivery(surroundings, config, shards, pace);
}

class Delivery implements Running<typeof DeliveryService> {
  readonly service: DeliveryHandlers;
  readonly pins = new Pins();
  readonly #surroundings: Surroundings;
  readonly #committer: Committer;
  readonly #ownership: Ownership;
  readonly #owner: Owner;
  readonly #fanout: Fanout;
  readonly #placement: Placement;
  #cancelSweep: Cancel = () => undefined;
  #saidMs = -saidEveryMs;

  constructor(
    surroundings: Surroundings,
    config: DeliveryConfig,
    shards: ShardRegistry,
    pace: Pace,
  ) {
    const storage = createClient(StorageService, surroundings.transport(StorageService));
    const committer = new Committer(surroundings, pace, this.#events());
    const ownership = new Ownership(shards, surroundings.identity, (shard) =>
      this.#owner.dropShard(shard),
    );
    const owner = new Owner(surroundings, config, ownership, committer, (conversation) =>
      this.#fanout.forget(conversation),
    );
    const fanout = new Fanout(surroundings, config, () => owner.users());
    const operations = new Operations(surroundings, { committer, fanout });
    this.#surroundings = surroundings;
    this.#committer = committer;
    this.#ownership = ownership;
    this.#owner = owner;
    this.#fanout = fanout;
    this.#placement = new Placement(surroundings, {
      shards,
      ownership,
      async revoke(incarnation) {
        await storage.revoke({ incarnation }, { timeoutMs: 30_000 });
      },
      settle: (closing) => owner.settle(closing),
    });
    const inspection = new Inspection(owner, ownership, this.pins, shards.count);
    this.service = new DeliveryHandlers(surroundings, {
      owner,
      operations,
      committer,
      inspection,
      storage,
    });
  }

  async start(): Promise<void> {
    this.#committer.start();
    this.#fanout.start();
    await this.#placement.start();
    this.#cancelSweep = every(this.#surroundings.clock, sweepMs, () => this.#owner.sweep());
  }

  problems(): string[] {
    const problems: string[] = [];
    if (!this.#committer.up) problems.push("delivery does not reach storage");
    if (!this.#fanout.up) problems.push("delivery does not reach session");
    const { missing } = this.#placement;
    if (missing > 0) problems.push(`delivery is taking over ${missing} shards`);
    return problems;
  }

  drain(boundMs: number): Promise<void> {
    return this.#placement.emptied(boundMs);
  }

  async close(): Promise<void> {
    this.#cancelSweep();
    await this.#placement.close();
    await this.#committer.drained(closeMs);
    await this.#committer.close();
    this.#ownership.close();
    await this.#fanout.close();
  }

  /** Of one trouble now and then: while a disk is full every batch fails. */
  #say(drafts: readonly Draft[], { code, rawMessage: reason }: ConnectError): void {
    const { clock, log } = this.#surroundings;
    if (clock.monotonic() - this.#saidMs < saidEveryMs) return;
    this.#saidMs = clock.monotonic();
    const [first] = drafts;
    const ids = { conversations: drafts.length, conversationId: first?.conversation.id };
    log.warn({ ...ids, code, reason }, "a batch was not kept");
  }

  #events(): CommitterEvents {
    return {
      committed: (drafts, commit) => this.#fanout.records(drafts, commit),
      indexed: (drafts, commit) => {
        for (const draft of drafts) draft.conversation.committed(draft.headSeq);
        if (commit !== 0n) this.#fanout.indexed(commit);
        this.#fanout.cursors(drafts);
        for (const draft of drafts) draft.succeed();
        this.#owner.progress();
      },
      failed: (drafts, error) => {
        this.#say(drafts, error);
        for (const draft of drafts) {
          draft.fail(error);
          this.#owner.drop(draft.conversation, error);
        }
        this.#owner.progress();
      },
      revoked: (incarnation) => {
        const { identity, log } = this.#surroundings;
        log.error({ incarnation }, "revoked: another process owns these shards now");
        identity.end(incarnation);
      },
    };
  }
}
