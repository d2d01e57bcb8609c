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

  constructor(count: number, members: Members, keys: Keys) {
    super(count);
    this.#members = members;
    this.#keys = keys;
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
    const owner = this.#heard(shard, keyValues(answer));
    // A try before, whose outcome was not known, may have done it.
    return before > 0 && owner?.incarnation === incarnation ? owner : undefined;
  }

  async refresh(shard: number): Promise<ShardOwner | undefined> {
    const request = { key: this.#keys.shard(shard) };
    const { kvs } = await this.#members.ask(({ kv }, options) => kv.range(request, options));
    this.#heard(shard, kvs);
    return this.owner(shard);
  }

  /** What etcd answered. */
  #heard(shard: number, [found]: KeyValue[]): ShardOwner | undefined {
    if (found === undefined) return undefined;
    const owner = { incarnation: Buffer.from(found.value).toString(), epoch: found.modRevision };
    this.learn(shard, owner);
    return owner;
  }
}
