/** The owners of shards in etcd: a key each, whose last change is the epoch. It hears of them through the view. */
import type { KeyValue } from "../../proto/gen/etcd/kv_pb.ts";
import { ShardTable } from "../shards.ts";
import type { ShardOwner, ShardRegistry } from "../shards.ts";
import { bytes } from "./keys.ts";
import type { Keys } from "./keys.ts";
import type { Members } from "./members.ts";
import { keyValues, putEachInPlaceOf } from "./transaction.ts";

/** Changes in one transaction: etcd takes 128 if nobody told it otherwise. */
const atOnce = 100;

/** A shard that goes from the owner under the epoch (0: nobody) to an incarnation. */
interface Replacement {
  readonly shard: number;
  readonly epoch: bigint;
  readonly incarnation: string;
  readonly resolve: (owner: ShardOwner | undefined) => void;
  readonly reject: (error: unknown) => void;
}

export class EtcdShards extends ShardTable implements ShardRegistry {
  readonly #members: Members;
  readonly #keys: Keys;
  /** Resolves once the view is as new as the revision. */
  readonly #reached: (revision: bigint) => Promise<void>;
  #wanted: Replacement[] = [];
  #running = false;

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

  replace(
    shard: number,
    expected: ShardOwner | undefined,
    incarnation: string,
  ): Promise<ShardOwner | undefined> {
    return new Promise((resolve, reject) => {
      this.#wanted.push({ shard, epoch: expected?.epoch ?? 0n, incarnation, resolve, reject });
      if (this.#running) return;
      this.#running = true;
      void this.#run();
    });
  }

  async refresh(shard: number): Promise<ShardOwner | undefined> {
    const request = { key: this.#keys.shard(shard) };
    const { kvs } = await this.#members.ask(({ kv }, options) => kv.range(request, options));
    await this.#heard(shard, kvs);
    return this.owner(shard);
  }

  /** One transaction at a time, of all that gathered during the one before: half of all shards are claimed at once when a process dies. */
  async #run(): Promise<void> {
    // What one turn brings is one transaction.
    await Promise.resolve();
    while (this.#wanted.length > 0) {
      const some = new Map<number, Replacement>();
      const later: Replacement[] = [];
      for (const one of this.#wanted)
        if (some.size < atOnce && !some.has(one.shard)) some.set(one.shard, one);
        else later.push(one);
      this.#wanted = later;
      await this.#replaceAll([...some.values()], false);
    }
    this.#running = false;
  }

  /** All or none; then each by itself. `tried`: a try before, whose outcome was not known, may have done it. Never rejects. */
  async #replaceAll(some: readonly Replacement[], tried: boolean): Promise<void> {
    try {
      const request = putEachInPlaceOf(
        some.map(({ shard, epoch, incarnation }) => ({
          revision: epoch,
          put: { key: this.#keys.shard(shard), value: bytes(incarnation) },
        })),
      );
      const { answer, before } = await this.#members.ask(async ({ kv }, options, before) => ({
        answer: await kv.txn(request, options),
        before,
      }));
      const triedNow = tried || before > 0;
      const [only] = some;
      if (answer.succeeded) {
        const epoch = answer.header?.revision ?? 0n;
        for (const { shard, incarnation } of some) this.learn(shard, { incarnation, epoch });
        for (const { incarnation, resolve } of some) resolve({ incarnation, epoch });
      } else if (some.length > 1 || only === undefined) {
        await Promise.all(some.map((one) => this.#replaceAll([one], triedNow)));
      } else {
        const owner = await this.#heard(only.shard, keyValues(answer));
        only.resolve(triedNow && owner?.incarnation === only.incarnation ? owner : undefined);
      }
    } catch (error) {
      for (const { reject } of some) reject(error);
    }
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
