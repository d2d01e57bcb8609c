/** Who owns which shard of the conversations: what everybody may look up, and what owners change. */

/** One ownership of a shard. */
export interface ShardOwner {
  /** The life of the delivery process that owns it. */
  readonly incarnation: string;
  /** Grows with every ownership of the shard, across restarts too. */
  readonly epoch: bigint;
}

/** As last heard: it may be older than what is true, and never goes back. */
export interface ShardMap {
  /** How many there are; the same for good. A conversation's shard is hash32(conversation id) modulo this. */
  readonly count: number;
  /** Undefined: nobody owned it yet. */
  owner(shard: number): ShardOwner | undefined;
  /** Calls after each change, until the answer is called. */
  watch(changed: (shard: number) => void): () => void;
}

/**
 * An entry outlives its owner, since whoever comes next must know whom to revoke. Safety does not rest on it alone: a displaced owner is
 * revoked in the store first.
 */
export interface ShardRegistry extends ShardMap {
  /**
   * Puts `incarnation` in the place of exactly `expected`, durably, and answers with the new ownership, whose epoch is higher than any before;
   * undefined where another is there. Where it rejects, the outcome is unknown: `owner` shows it sooner or later.
   * `owner` shows the new ownership when it resolves.
   */
  replace(
    shard: number,
    expected: ShardOwner | undefined,
    incarnation: string,
  ): Promise<ShardOwner | undefined>;
  /** Asks the registry itself, so that `owner` is as new as when this was called. */
  refresh(shard: number): Promise<ShardOwner | undefined>;
}

/** What was heard of the shards. It never goes back. */
export class ShardTable implements ShardMap {
  readonly count: number;
  readonly #owners: (ShardOwner | undefined)[];
  readonly #listeners = new Set<(shard: number) => void>();

  constructor(count: number) {
    this.count = count;
    this.#owners = Array.from({ length: count }, () => undefined);
  }

  owner(shard: number): ShardOwner | undefined {
    return this.#owners[shard];
  }

  watch(changed: (shard: number) => void): () => void {
    this.#listeners.add(changed);
    return () => void this.#listeners.delete(changed);
  }

  /** What is older than what is known changes nothing. */
  learn(shard: number, owner: ShardOwner): void {
    const known = this.#owners[shard];
    if (known !== undefined && known.epoch >= owner.epoch) return;
    this.#owners[shard] = owner;
    for (const listener of this.#listeners) listener(shard);
  }
}

/** A registry in memory. */
export class MemoryShards extends ShardTable implements ShardRegistry {
  replace(
    shard: number,
    expected: ShardOwner | undefined,
    incarnation: string,
  ): Promise<ShardOwner | undefined> {
    const present = this.owner(shard);
    if (present?.epoch !== expected?.epoch) return Promise.resolve(undefined);
    const owner = { incarnation, epoch: (present?.epoch ?? 0n) + 1n };
    this.learn(shard, owner);
    return Promise.resolve(owner);
  }

  refresh(shard: number): Promise<ShardOwner | undefined> {
    return Promise.resolve(this.owner(shard));
  }
}
