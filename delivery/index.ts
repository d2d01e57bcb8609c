/** Delivery: order, duplicates, commit, fan-out, cursors. */
import { createClient } from "@connectrpc/connect";
import { Committer } from "./committer.ts";
import type { DeliveryConfig } from "./config.ts";
import type { Draft } from "./draft.ts";
import { Fanout } from "./fanout.ts";
import { Operations } from "./operations.ts";
import { Owner } from "./owner.ts";
import { Ownership } from "./ownership.ts";
import type { Registry } from "./ports.ts";
import { DeliveryHandlers } from "./service.ts";
import { every, type Cancel } from "../mesh/clock.ts";
import { unavailable } from "../mesh/errors.ts";
import type { Running, Surroundings } from "../mesh/lifecycle.ts";
import type { DeliveryService } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";

export { type DeliveryConfig, deliveryConfig } from "./config.ts";
export type { Registry, Owner as ShardOwner } from "./ports.ts";

const sweepMs = 10_000;
/** How long batches under way may take when the process closes. */
const closeMs = 5_000;

export function createDelivery(
  surroundings: Surroundings,
  config: DeliveryConfig,
  registry: Registry,
): Running<typeof DeliveryService> {
  const storage = createClient(StorageService, surroundings.transport(StorageService));
  const revoke = async (incarnation: string): Promise<void> => {
    await storage.revoke({ incarnation }, { timeoutMs: 30_000 });
  };
  const ownership = new Ownership(registry, surroundings.random, revoke);
  const committer = new Committer(surroundings, {
    incarnation: () => ownership.incarnation,
    committed(drafts: Draft[]) {
      fanout.records(drafts);
    },
    indexed(drafts: Draft[]) {
      for (const draft of drafts) draft.conversation.committed(draft.headSeq);
      fanout.cursors(drafts);
      for (const draft of drafts) draft.succeed();
    },
    failed(drafts, error, revoked) {
      for (const draft of drafts) {
        draft.fail(error);
        owner.drop(draft.conversation, error);
      }
      if (!revoked) return;
      surroundings.log.error(
        { incarnation: ownership.incarnation },
        "revoked: another process owns these shards now",
      );
      owner.dropAll(unavailable("this conversation has another owner now"));
      ownership.beginAgain();
    },
  });
  const owner = new Owner(surroundings, config, ownership, committer);
  const fanout = new Fanout(surroundings, config, () => owner.audiences());
  const operations = new Operations(surroundings, { ownership, committer, fanout });
  const service = new DeliveryHandlers(surroundings, { owner, operations, committer, ownership });
  let cancelSweep: Cancel = () => undefined;

  return {
    service,
    async start() {
      await ownership.claimAll();
      committer.start();
      fanout.start();
      cancelSweep = every(surroundings.clock, sweepMs, () => owner.sweep());
    },
    problems() {
      const problems: string[] = [];
      if (!committer.up) problems.push("delivery does not reach storage");
      if (!fanout.up) problems.push("delivery does not reach session");
      return problems;
    },
    async close() {
      cancelSweep();
      await committer.drained(closeMs);
      await committer.close();
      await fanout.close();
    },
  };
}
