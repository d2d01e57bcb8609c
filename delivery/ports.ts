/** What delivery needs from outside besides the other services: who owns which shard. */

/** One ownership of a shard. */
export interface Owner {
  readonly incarnation: string;
  /** Grows with every ownership of the shard, across restarts too. */
  readonly epoch: bigint;
}

/**
 * Who owns which shard: etcd in a cluster, a file in one process. An entry outlives its owner, since whoever comes next must know whom
 * to revoke. Safety does not rest on it alone: a displaced owner is revoked in the store first.
 */
export interface Registry {
  readonly shards: number;
  read(shard: number): Promise<Owner | undefined>;
  /**
   * Puts `incarnation` in the place of exactly `expected`, durably, and answers with the new ownership, whose epoch is higher than any
   * before; undefined where somebody else came first.
   */
  replace(
    shard: number,
    expected: Owner | undefined,
    incarnation: string,
  ): Promise<Owner | undefined>;
}
