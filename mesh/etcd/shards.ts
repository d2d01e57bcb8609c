/** The owners of shards in etcd: a key each, whose last change is the epoch. It hears of them through the view. */
import type { KeyValue } from "../../proto/gen/etcd/kv_pb.ts";
import { ShardTable } from "../shards.ts";
import type { ShardOwner, ShardRegistry } from "../shards.ts";
import { bytes } from "./keys.ts";
import type { Keys } from "./keys.ts";
import type { Members } from "./members.ts";
import { keyValues, putInPlaceOf } from "./transaction.ts";

export class EtcdShards extends ShardTable implements ShardRegistry {
  readonly #members: Members;
  readonly #keys: Keys;
  /** Resolves once the view is as new as the revision. */
  readonly #reached: (revision: bigint) => Promise<void>;

  constructor(
    count: number,
    members: Members,
    keys: Keys,
    reached: (revision: bigint) => Promise<void>,
  ) {
    super(count);
    this.#members = members;
    this.#keys = keys;
    this.#reached = reached;
  }

  async replace(
    shard: number,
    expected: ShardOwner | undefined,
    incarnation: string,
  ): Promise<ShardOwner | undefined> {
    const key = this.#keys.shard(shard);
    const request = putInPlaceOf(expected?.epoch ?? 0n, { key, value: bytes(incarnation) });
    const { answer, before } = await this.#members.ask(async ({ kv }, options, before) => ({
      answer: await kv.txn(request, options),
      before,
    }));
    if (answer.succeeded) {
      const owner = { incarnation, epoch: answer.header?.revision ?? 0n };
      this.learn(shard, owner);
      return owner;
    }
    const owner = await this.#heard(shard, keyValues(answer));
    // A try before, whose outcome was not known, may have done it.
    return before > 0 && owner?.incarnation === incarnation ? owner : undefined;
  }

  async refresh(shard: number): Promise<ShardOwner | undefined> {
    const request = { key: this.#keys.shard(shard) };
    const { kvs } = await this.#members.ask(({ kv }, options) => kv.range(request, options));
    await this.#heard(shard, kvs);
    return this.owner(shard);
  }

  /**
   * What etcd answered. Not known before the view is there, too: an owner that is not announced, as far as was heard, would be taken for gone,
   * and revoked.
   */
  async #heard(shard: number, [found]: KeyValue[]): Promise<ShardOwner | undefined> {
    if (found === undefined) return undefined;
    await this.#reached(found.modRevision);
    const owner = { incarnation: Buffer.from(found.value).toString(), epoch: found.modRevision };
    this.learn(shard, owner);
    return owner;
  }
}
