/**
 * Moves shards to where they belong: takes those of owners that are gone, and hands over those that fall to another. It decides by
 * who lives and who owns what, as last heard; that it may be wrong costs time, never a record.
 */
import { type Cancel, sleep } from "../mesh/clock.ts";
import { ConnectError } from "@connectrpc/connect";
import { unavailable } from "../mesh/errors.ts";
import type { Count } from "../mesh/metrics.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { type Peer, type Peers, ringOf } from "../mesh/peers.ts";
import type { Ring } from "../mesh/ring.ts";
import type { ShardRegistry } from "../mesh/shards.ts";
import { DeliveryService } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import type { Ownership } from "./ownership.ts";

/** Shards that are claimed or handed over at once: more than the registry writes at once, so that it never waits for us. */
const atOnce = 256;
const leastBackoffMs = 100;
const mostBackoffMs = 5_000;
/** How long a shard that nobody serves waits to hear from the registry. */
const answerMs = 1_000;

export interface PlacementParts {
  readonly shards: ShardRegistry;
  readonly ownership: Ownership;
  /** Resolves once no batch of the incarnation can commit any more, and all that did can be read. */
  revoke(incarnation: string): Promise<void>;
  /** For shards that take nothing new: each resolves once nothing of it is under way and its conversations are let go. */
  settle(shards: ReadonlySet<number>): ReadonlyMap<number, Promise<void>>;
}

interface Plan {
  readonly claims: number[];
  readonly moves: number[];
}

export class Placement {
  readonly #surroundings: Surroundings;
  readonly #takeovers: Count;
  readonly #moves: Count;
  readonly #parts: PlacementParts;
  readonly #peers: Peers;
  readonly #closing = new AbortController();
  readonly #unwatch: (() => void)[] = [];
  /** Revocations that are under way or done, by incarnation. */
  readonly #revoked = new Map<string, Promise<void>>();
  #running: Promise<void> | undefined;
  #again = false;
  #cancelRetry: Cancel | undefined;
  #backoffMs = leastBackoffMs;
  #idle: (() => void)[] = [];

  constructor(surroundings: Surroundings, parts: PlacementParts) {
    this.#surroundings = surroundings;
    this.#takeovers = surroundings.metrics.count(
      "parley_delivery_takeovers_total",
      "Shards that were taken over from a process that is gone.",
    );
    this.#moves = surroundings.metrics.count(
      "parley_delivery_moves_total",
      "Shards that were handed over to another process.",
    );
    surroundings.metrics.level(
      "parley_delivery_shards",
      "Shards that the process owns.",
      () => parts.ownership.owned.length,
    );
    this.#parts = parts;
    this.#peers = surroundings.peers(DeliveryService);
  }

  /** Resolves once what is ours already is taken; from then on it follows what it hears. */
  async start(): Promise<void> {
    const { identity } = this.#surroundings;
    await this.#place();
    const wake = (): void => this.#wake();
    this.#unwatch.push(
      this.#peers.watch(wake),
      this.#parts.shards.watch(wake),
      identity.watch(wake),
    );
    wake();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#cancelRetry?.();
    for (const unwatch of this.#unwatch) unwatch();
    await this.#running;
  }

  /** Resolves once nothing is ours any more, or after the time. The process is announced as draining by then. */
  async emptied(boundMs: number): Promise<void> {
    this.#wake();
    if (this.#parts.ownership.owned.length === 0 || this.#heirs().length === 0) return;
    await new Promise<void>((resolve) => {
      this.#idle.push(resolve);
      this.#surroundings.clock.after(boundMs, resolve);
    });
  }

  /** How many shards fall to this process and are not its own yet. */
  get missing(): number {
    return this.#plan()?.claims.length ?? 0;
  }

  #heirs(): string[] {
    const { identity } = this.#surroundings;
    return this.#peers.present
      .filter(({ id, draining }) => id !== identity.id && !draining)
      .map(({ id }) => id);
  }

  #wake(): void {
    if (this.#closing.signal.aborted) return;
    this.#again = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      // Somebody may have come while it ended.
      if (this.#again) this.#wake();
    });
  }

  async #run(): Promise<void> {
    const { clock, random, log } = this.#surroundings;
    // What one turn brings is one change.
    await new Promise<void>((resolve) => clock.afterTurn(resolve));
    while (this.#again && !this.#closing.signal.aborted) {
      this.#again = false;
      try {
        await this.#place();
        this.#backoffMs = leastBackoffMs;
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        const retryInMs = Math.ceil(this.#backoffMs * (0.5 + random.unit() / 2));
        this.#backoffMs = Math.min(this.#backoffMs * 2, mostBackoffMs);
        const reason = ConnectError.from(error).message;
        log.warn({ reason, retryInMs }, "shards could not be placed, trying again");
        this.#cancelRetry?.();
        this.#cancelRetry = clock.after(retryInMs, () => this.#wake());
      }
      if (this.#parts.ownership.owned.length > 0) continue;
      for (const resolve of this.#idle) resolve();
      this.#idle = [];
    }
  }

  /** Undefined where this process is not announced: then it places nothing. */
  #plan(): Plan | undefined {
    const { identity } = this.#surroundings;
    const { present } = this.#peers;
    const live = new Set(present.map(({ id }) => id));
    if (!live.has(identity.id)) return undefined;
    const place = placesAmong(present);
    const plan: Plan = { claims: [], moves: [] };
    for (let shard = 0; shard < this.#parts.shards.count; shard += 1) {
      const owner = this.#parts.shards.owner(shard)?.incarnation;
      const mine = place(shard) === identity.id;
      if (owner === identity.id) {
        if (!mine) plan.moves.push(shard);
      } else if (mine && (owner === undefined || !live.has(owner))) plan.claims.push(shard);
    }
    return plan;
  }

  async #place(): Promise<void> {
    const { id } = this.#surroundings.identity;
    const plan = this.#plan();
    if (plan === undefined) return;
    const { claims, moves } = plan;
    if (claims.length + moves.length > 0)
      this.#surroundings.log.debug(
        { claims: claims.length, moves: moves.length },
        "shards are placed",
      );
    const done = await Promise.allSettled([
      each(claims, (shard) => this.#claim(shard, id)),
      this.#handOver(moves, id),
    ]);
    for (const one of done) if (one.status === "rejected") throw one.reason;
  }

  /**
   * Revokes the owner before, then claims from exactly that one: a claim before the revocation would let the old owner commit what the new one
   * has not read.
   */
  async #claim(shard: number, id: string): Promise<void> {
    const { shards } = this.#parts;
    const owner = shards.owner(shard);
    if (owner !== undefined) {
      if (this.#peers.present.some((peer) => peer.id === owner.incarnation)) return;
      await this.#revokeOnce(owner.incarnation);
    }
    if (this.#surroundings.identity.id !== id || this.#closing.signal.aborted) return;
    if ((await shards.replace(shard, owner, id)) === undefined) await shards.refresh(shard);
    else if (owner !== undefined) {
      this.#takeovers.add();
      const { log } = this.#surroundings;
      log.debug({ shard, incarnation: owner.incarnation }, "a shard was taken over");
    }
  }

  #revokeOnce(incarnation: string): Promise<void> {
    let revoked = this.#revoked.get(incarnation);
    if (revoked === undefined) {
      this.#surroundings.log.debug({ incarnation }, "revoking an owner that is gone");
      revoked = this.#parts.revoke(incarnation);
      this.#revoked.set(incarnation, revoked);
      revoked.catch(() => this.#revoked.delete(incarnation));
    }
    return revoked;
  }

  async #handOver(moves: readonly number[], id: string): Promise<void> {
    const { shards, ownership, settle } = this.#parts;
    const [first] = moves;
    if (first === undefined) return;
    // Not begun where the registry does not answer: a shard that nobody may serve is worse than one at the wrong place.
    await shards.refresh(first);
    if (this.#surroundings.identity.id !== id) return;
    for (const shard of moves) ownership.stopTaking(shard);
    const settled = settle(new Set(moves));
    await each(moves, async (shard) => {
      await settled.get(shard);
      await this.#askFirst(shard);
      await this.#give(shard, id);
    });
  }

  /** The registry may have gone away since the move was begun: then the shard is served on, and the move begins anew when it answers. */
  async #askFirst(shard: number): Promise<void> {
    const { shards, ownership } = this.#parts;
    let cancel: Cancel | undefined;
    const late = new Promise<never>((_, reject) => {
      const why = unavailable("the registry does not answer");
      cancel = this.#surroundings.clock.after(answerMs, () => reject(why));
    });
    try {
      await Promise.race([shards.refresh(shard), late]);
    } catch (error) {
      ownership.takeAgain(shard);
      throw error;
    } finally {
      cancel?.();
    }
  }

  /**
   * From the first try on its next owner may serve at any moment, so that nothing is taken before the outcome is known. Where the shard is ours
   * again meanwhile, it is claimed anew: what is left of earlier tries then finds another epoch.
   */
  async #give(shard: number, id: string): Promise<void> {
    const { shards } = this.#parts;
    const { clock, random } = this.#surroundings;
    let backoffMs = leastBackoffMs;
    while (!this.#closing.signal.aborted) {
      const mine = shards.owner(shard);
      if (mine?.incarnation !== id || this.#surroundings.identity.id !== id) return;
      const next = placesAmong(this.#peers.present)(shard) ?? id;
      try {
        if ((await shards.replace(shard, mine, next)) !== undefined) {
          this.#moves.add();
          this.#surroundings.log.debug({ shard, to: next }, "a shard was handed over");
          return;
        }
        await shards.refresh(shard);
      } catch {
        await sleep(clock, Math.ceil(backoffMs * (0.5 + random.unit() / 2)), this.#closing.signal);
        backoffMs = Math.min(backoffMs * 2, mostBackoffMs);
        await shards.refresh(shard).catch(() => undefined);
      }
    }
  }
}

/** Where each shard belongs: at the process that an operator moved it to, as long as that one stays; else where it falls. */
export function placesAmong(peers: readonly Peer[]): (shard: number) => string | undefined {
  const ring = ringOf(peers);
  const moved = new Map<number, string>();
  for (const { id, draining, pinned = [] } of peers) {
    // While a shard is moved on from one process to another both may have it: all decide for the same one.
    if (!draining) for (const shard of pinned) if (!moved.has(shard)) moved.set(shard, id);
  }
  return (shard) => moved.get(shard) ?? placeOf(ring, shard);
}

/** The process that the shard falls to. */
export const placeOf = (ring: Ring, shard: number): string | undefined => ring.of(`shard ${shard}`);

/** Does it for each, some at once. Rejects with the first error once all have ended. */
async function each(
  shards: readonly number[],
  act: (shard: number) => Promise<void>,
): Promise<void> {
  const left = shards.values();
  const work = async (): Promise<void> => {
    for (const shard of left) await act(shard);
  };
  const done = await Promise.allSettled(Array.from({ length: atOnce }, work));
  for (const one of done) if (one.status === "rejected") throw one.reason;
}
