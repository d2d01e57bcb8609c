/** One life of a delivery process: its incarnation and the epochs of the shards it owns. It knows the order of a takeover, not what is taken over. */
import type { Conversation } from "./conversation.ts";
import type { Registry } from "./ports.ts";
import { type Random, newId } from "../mesh/random.ts";
import { unavailable } from "../mesh/errors.ts";

export class Ownership {
  readonly #registry: Registry;
  readonly #random: Random;
  /** Resolves once no batch of the incarnation can commit any more. */
  readonly #revoke: (incarnation: string) => Promise<void>;
  readonly #epochs = new Map<number, bigint>();
  #incarnation: string;

  constructor(registry: Registry, random: Random, revoke: (incarnation: string) => Promise<void>) {
    this.#registry = registry;
    this.#random = random;
    this.#revoke = revoke;
    this.#incarnation = newId(random);
  }

  get incarnation(): string {
    return this.#incarnation;
  }

  /** The epoch under which a conversation's records are written. Throws where the shard is another's. */
  epochOf({ idHash }: Pick<Conversation, "idHash">): bigint {
    const epoch = this.#epochs.get(idHash % this.#registry.shards);
    if (epoch === undefined) throw unavailable("this conversation is being moved to another owner");
    return epoch;
  }

  /**
   * Takes every shard: revokes the owner before, then claims from exactly that one (in this order: a claim before the revocation
   * would let the old owner commit what the new one has not read).
   */
  async claimAll(): Promise<void> {
    const revoked = new Set<string>();
    for (let shard = 0; shard < this.#registry.shards; shard += 1) {
      for (;;) {
        const before = await this.#registry.read(shard);
        if (before !== undefined && !revoked.has(before.incarnation)) {
          await this.#revoke(before.incarnation);
          revoked.add(before.incarnation);
        }
        const mine = await this.#registry.replace(shard, before, this.#incarnation);
        if (mine === undefined) continue;
        this.#epochs.set(shard, mine.epoch);
        break;
      }
    }
  }

  /** After a revocation: another life, which owns nothing yet. */
  beginAgain(): void {
    this.#incarnation = newId(this.#random);
    this.#epochs.clear();
  }
}
