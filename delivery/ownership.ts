/** Which shards are ours, under which epochs, as the registry tells it. It knows nothing of how they came to us or where they go. */
import type { Identity } from "../mesh/identity.ts";
import { hash32 } from "../mesh/hash.ts";
import type { ShardMap } from "../mesh/shards.ts";

export class Ownership {
  readonly #shards: ShardMap;
  readonly #identity: Identity;
  /** Told of a shard that is not ours any more, or is ours anew: what is known of its conversations is worth nothing. */
  readonly #lost: (shard: number) => void;
  readonly #epochs: (bigint | undefined)[];
  readonly #closed: boolean[];
  readonly #unwatch: (() => void)[];

  constructor(shards: ShardMap, identity: Identity, lost: (shard: number) => void) {
    this.#shards = shards;
    this.#identity = identity;
    this.#lost = lost;
    this.#epochs = Array.from({ length: shards.count }, () => undefined);
    this.#closed = Array.from({ length: shards.count }, () => false);
    this.#unwatch = [
      shards.watch((shard) => this.#heard(shard)),
      identity.watch(() => this.#hearAll()),
    ];
    this.#hearAll();
  }

  close(): void {
    for (const unwatch of this.#unwatch) unwatch();
  }

  shardOf(conversationId: string): number {
    const { count } = this.#shards;
    return count === 1 ? 0 : hash32(conversationId) % count;
  }

  /** Whether new operations are taken for the shard. */
  admits(shard: number): boolean {
    return this.#epochs[shard] !== undefined && this.#closed[shard] === false;
  }

  /** The epoch under which the shard's records are written; undefined where it is another's. */
  epochOf(shard: number): bigint | undefined {
    return this.#epochs[shard];
  }

  get owned(): number[] {
    return [...this.#epochs.keys()].filter((shard) => this.#epochs[shard] !== undefined);
  }

  /** Takes no new operations for the shard; what was taken is finished under its epoch. Until the shard is ours anew. */
  stopTaking(shard: number): void {
    this.#closed[shard] = true;
  }

  /** It stays ours after all. What was sent behind an operation that was refused meanwhile is refused, too, by its gateway's stream. */
  takeAgain(shard: number): void {
    this.#closed[shard] = false;
  }

  #hearAll(): void {
    for (let shard = 0; shard < this.#shards.count; shard += 1) this.#heard(shard);
  }

  #heard(shard: number): void {
    const owner = this.#shards.owner(shard);
    const epoch = owner?.incarnation === this.#identity.id ? owner.epoch : undefined;
    const before = this.#epochs[shard];
    if (before === epoch) return;
    this.#epochs[shard] = epoch;
    this.#closed[shard] = false;
    if (before !== undefined) this.#lost(shard);
  }
}
