/** Who serves which shard, for operators, and a shard moved to where they want it. It decides nothing: delivery places shards. */
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { invalid } from "../mesh/errors.ts";
import { hash32 } from "../mesh/hash.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { Peer } from "../mesh/peers.ts";
import type { ShardMap } from "../mesh/shards.ts";
import { DeliveryService } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import type {
  GetShardRequest,
  MoveShardRequest,
  MoveShardResponse,
  Shard,
} from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { answerMs } from "./asking.ts";

const waitUsualMs = 10_000;
const waitMostMs = 60_000;

export class ShardDesk {
  readonly #surroundings: Surroundings;
  readonly #shards: ShardMap;

  constructor(surroundings: Surroundings, shards: ShardMap) {
    this.#surroundings = surroundings;
    this.#shards = shards;
  }

  shardOf(conversationId: string): number {
    if (conversationId === "") throw invalid("conversation_id is empty: which conversation?");
    return this.#shards.count === 1 ? 0 : hash32(conversationId) % this.#shards.count;
  }

  named(which: GetShardRequest["which"]): number {
    switch (which.case) {
      case "conversationId":
        return this.shardOf(which.value);
      case "shard":
        if (which.value < this.#shards.count) return which.value;
        throw invalid(
          `there is no shard ${which.value}: they are numbered up to ${this.#shards.count - 1}`,
        );
      case undefined:
        throw invalid("set shard or conversation_id: which shard?");
    }
  }

  /** How many each process owns. */
  owned(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (let shard = 0; shard < this.#shards.count; shard += 1) {
      const owner = this.#shards.owner(shard)?.incarnation;
      if (owner !== undefined) counts.set(owner, (counts.get(owner) ?? 0) + 1);
    }
    return counts;
  }

  shard(shard: number): Shard {
    const { present } = this.#surroundings.peers(DeliveryService);
    const owner = this.#shards.owner(shard);
    const peer = present.find(({ id }) => id === owner?.incarnation);
    return {
      $typeName: "parley.gateway.v1.Shard",
      shard,
      count: this.#shards.count,
      ownerId: owner?.incarnation ?? "",
      epoch: owner?.epoch ?? 0n,
      ownerPresent: peer !== undefined,
      ownerDraining: peer?.draining ?? false,
      ownerAddress: peer?.address ?? "",
      pinnedToId: this.#pinnedTo(shard)[0]?.id ?? "",
    };
  }

  async move({ which, toProcessId, waitMs }: MoveShardRequest): Promise<MoveShardResponse> {
    const shard = this.named(which);
    if (waitMs > waitMostMs) throw invalid(`wait_ms is more than ${waitMostMs}`);
    const before = this.shard(shard);
    const to = toProcessId === "" ? undefined : this.#target(toProcessId);
    // First there, so that it is not placed by hashing in between.
    if (to !== undefined) await this.#pin(to, shard, true);
    for (const peer of this.#pinnedTo(shard))
      if (peer.id !== to?.id) await this.#pin(peer, shard, false);
    await this.#heard(shard, toProcessId);
    if (to !== undefined) await this.#moved(shard, to.id, waitMs === 0 ? waitUsualMs : waitMs);
    return {
      $typeName: "parley.gateway.v1.MoveShardResponse",
      before,
      shard: this.shard(shard),
    };
  }

  #target(id: string): Peer {
    const { present } = this.#surroundings.peers(DeliveryService);
    const peer = present.find((one) => one.id === id);
    if (peer === undefined)
      throw new ConnectError(
        `there is no delivery process ${id}; there are: ${present.map((one) => one.id).join(", ")}`,
        Code.NotFound,
      );
    if (!peer.draining) return peer;
    throw new ConnectError(`delivery process ${id} is going away`, Code.FailedPrecondition);
  }

  #pinnedTo(shard: number): Peer[] {
    const { present } = this.#surroundings.peers(DeliveryService);
    return present.filter(({ pinned = [], draining }) => !draining && pinned.includes(shard));
  }

  async #pin({ transport }: Peer, shard: number, pinned: boolean): Promise<void> {
    const delivery = createClient(DeliveryService, transport);
    await delivery.pinShard({ shard, pinned }, { timeoutMs: answerMs });
  }

  /** What was announced comes back to this gateway like to all others, mostly at once. */
  #heard(shard: number, pinnedToId: string): Promise<boolean> {
    const peers = this.#surroundings.peers(DeliveryService);
    return this.#until(
      answerMs,
      (look) => peers.watch(look),
      () => (this.#pinnedTo(shard)[0]?.id ?? "") === pinnedToId,
    );
  }

  async #moved(shard: number, to: string, waitMs: number): Promise<void> {
    const isThere = await this.#until(
      waitMs,
      (look) => this.#shards.watch(look),
      () => this.#shards.owner(shard)?.incarnation === to,
    );
    if (isThere) return;
    throw new ConnectError(
      `shard ${shard} is not there after ${waitMs} ms: it moves once its owner has finished what it took`,
      Code.DeadlineExceeded,
    );
  }

  /** Whether it is so within the time. */
  async #until(
    ms: number,
    watch: (look: () => void) => () => void,
    isSo: () => boolean,
  ): Promise<boolean> {
    if (isSo()) return true;
    let unwatch = (): void => undefined;
    let cancel = (): void => undefined;
    await new Promise<void>((resolve) => {
      unwatch = watch(() => {
        if (isSo()) resolve();
      });
      cancel = this.#surroundings.clock.after(ms, resolve);
    });
    unwatch();
    cancel();
    return isSo();
  }
}
