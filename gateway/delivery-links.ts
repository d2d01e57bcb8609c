/**
 * The gateway's way to the owners of conversations: each operation goes to the process that owns its shard, in order, and waits here while there
 * is none to be reached. Operations of one shard are never under way at two owners.
 */
import type { Client } from "@connectrpc/connect";
import { Code } from "@connectrpc/connect";
import type { Cancel } from "../mesh/clock.ts";
import { hash32 } from "../mesh/hash.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { Count } from "../mesh/metrics.ts";
import type { Peers } from "../mesh/peers.ts";
import type { ShardMap } from "../mesh/shards.ts";
import { DeliveryService } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import type { Operation, Outcome, Refused } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { DeliveryStream, operationsMax } from "./delivery-stream.ts";
import type { StreamEvents } from "./delivery-stream.ts";
import { HeldShard } from "./held-shard.ts";
import { sentAgain, told } from "./waiting.ts";
import type { Waiting } from "./waiting.ts";

const operationMs = 10_000;
const retryMs = 500;
const leastBackoffMs = 20;
const mostBackoffMs = 1_000;
const tooMany = "too many operations are under way";
const noAnswer = "no answer in time, try again";
const comesAgain = "an earlier message was refused: send that one again first, then this one";
const closing = "the gateway is going away, try again";

/** An owner that said it is none, while the map says it is: it is asked again after a while, unless the map changes before. */
interface Refusal {
  readonly epoch: bigint | undefined;
  readonly backoffMs: number;
  /** Undefined: its time has come. */
  cancel: Cancel | undefined;
}

/**
 * A shard is *open* while its owner is reached and has shown that it owns it: operations go straight there. Else they are held, and one goes
 * ahead: an owner may learn of its ownership a moment later than the gateway, and must not refuse one and take the next.
 */
export class DeliveryLinks implements StreamEvents {
  readonly #surroundings: Surroundings;
  readonly #shards: ShardMap;
  readonly #peers: Peers;
  readonly #streams = new Map<string, DeliveryStream>();
  /** By shard: where its operations go at once; undefined: it is not open. */
  readonly #open: (DeliveryStream | undefined)[];
  /** By shard: how many operations are under way, all at one owner. */
  readonly #underWay: Int32Array;
  /** By shard: the epoch under which operations were sent last. */
  readonly #epochs: (bigint | undefined)[];
  /** By shard: what waits; undefined: nothing does. */
  readonly #held: (HeldShard | undefined)[];
  readonly #refusals = new Map<number, Refusal>();
  readonly #unwatch: (() => void)[] = [];
  readonly #again: Count;
  /** Operations that are held or under way. */
  #size = 0;
  #closed = false;

  constructor(surroundings: Surroundings, shards: ShardMap) {
    this.#surroundings = surroundings;
    this.#shards = shards;
    this.#peers = surroundings.peers(DeliveryService);
    const { metrics } = surroundings;
    metrics.level(
      "parley_gateway_operations",
      "Messages and moves of cursors that wait for delivery, or for its answer.",
      () => this.#size,
    );
    this.#again = metrics.count(
      "parley_gateway_operations_again_total",
      "Messages and moves of cursors that a gateway sends delivery again: its stream broke, or their shard moved.",
    );
    const { count } = shards;
    this.#open = Array.from({ length: count }, () => undefined);
    this.#epochs = Array.from({ length: count }, () => undefined);
    this.#held = Array.from({ length: count }, () => undefined);
    this.#underWay = new Int32Array(count);
  }

  start(): void {
    this.#unwatch.push(
      this.#peers.watch(() => this.#follow()),
      this.#shards.watch((shard) => this.#moved(shard)),
    );
    this.#follow();
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const unwatch of this.#unwatch) unwatch();
    for (const { cancel } of this.#refusals.values()) cancel?.();
    const streams = [...this.#streams.values()];
    this.#streams.clear();
    const closed = streams.map((stream) => stream.close());
    for (const [shard, held] of this.#held.entries()) {
      this.#held[shard] = undefined;
      if (held !== undefined) this.#fail(held.expired(Infinity), closing);
    }
    await Promise.all(closed);
  }

  /** Whether any delivery process is reached. */
  get up(): boolean {
    for (const { up } of this.#streams.values()) if (up) return true;
    return false;
  }

  /** Why it cannot serve all conversations now, a sentence each. */
  problems(): string[] {
    if (!this.up) return ["the gateway has no stream to delivery"];
    const { count } = this.#shards;
    let without = 0;
    for (let shard = 0; shard < count; shard += 1)
      if (this.#owner(shard) === undefined) without += 1;
    // While some are moved or taken over, what is sent to them waits: no reason to send clients away from every gateway at once.
    return without < count ? [] : ["the gateway reaches no owner of any shard"];
  }

  /** Sends an operation, now or when its owner is there. Whoever waits is told in any case. */
  operate(operation: Operation, waiting: Waiting): void {
    if (this.#closed) {
      waiting.failed(Code.Unavailable, closing, retryMs);
      return;
    }
    if (this.#size >= operationsMax) {
      waiting.failed(Code.ResourceExhausted, tooMany, retryMs);
      return;
    }
    this.#size += 1;
    const shard = this.#shardOf(operation.conversationId);
    waiting.shard = shard;
    // A whole number costs no memory of its own.
    waiting.untilMs = Math.ceil(this.#surroundings.clock.monotonic()) + operationMs;
    waiting.operation = operation;
    const stream = this.#open[shard];
    if (stream !== undefined) return this.#send(stream, waiting);
    // Until it goes out its device may have sent it again by another gateway, to an owner who is none any more.
    waiting.operation = sentAgain(operation);
    this.#hold(shard).add(waiting);
    this.#advance(shard);
  }

  /** For operations that have no outcome; lost where the owner is not reached. */
  tell(operation: Operation): void {
    this.#owner(this.#shardOf(operation.conversationId))?.tell(operation);
  }

  /** For unary calls about the conversation; undefined while its owner is not reached. */
  client(conversationId: string): Client<typeof DeliveryService> | undefined {
    return this.#owner(this.#shardOf(conversationId))?.client;
  }

  /** Fails what has waited for too long: it may have been done all the same, as a retry will find out. */
  expire(nowMs: number): void {
    const ahead: Waiting[] = [];
    for (const stream of this.#streams.values()) {
      const over = stream.expired(nowMs);
      for (const waiting of over) waiting.untilMs = told;
      ahead.push(...over);
    }
    this.#fail(ahead, noAnswer);
    for (const [shard, held] of this.#held.entries()) {
      if (held !== undefined)
        this.#expireHeld(
          held,
          nowMs,
          ahead.filter((waiting) => waiting.shard === shard),
        );
    }
  }

  /** A stream is there: what waits for it goes out. */
  opened(): void {
    this.#advanceAll();
  }

  settled(stream: DeliveryStream, waiting: Waiting, outcome: Outcome["outcome"]): void {
    const { shard } = waiting;
    this.#underWay[shard] = (this.#underWay[shard] ?? 0) - 1;
    if (outcome.case === "notOwner") {
      this.#giveBack(stream, waiting);
      this.#refused(shard);
      this.#advance(shard);
      return;
    }
    this.#size -= 1;
    const held = this.#held[shard];
    if (waiting.untilMs !== told) {
      if (outcome.case === "refused") {
        const { code, message, retryAfterMs } = outcome.value;
        waiting.failed(code, message, retryAfterMs);
      } else {
        waiting.settled(outcome);
      }
    } else if (held !== undefined && outcome.case === "refused" && outcome.value.retryAfterMs === 0)
      this.#refuseHeld(held, waiting, outcome.value);
    // It comes again, and what waits here to follow it must not go before.
    if (held !== undefined && outcome.case === "refused" && outcome.value.retryAfterMs > 0)
      this.#expireHeld(held, told, [waiting]);
    waiting.operation = undefined;
    if (this.#held[shard] !== undefined) this.#shown(shard, stream);
  }

  broken(stream: DeliveryStream, unknown: readonly Waiting[]): void {
    for (const [shard, open] of this.#open.entries())
      if (open === stream) this.#open[shard] = undefined;
    for (const waiting of unknown) {
      const { shard } = waiting;
      this.#underWay[shard] = (this.#underWay[shard] ?? 0) - 1;
      this.#giveBack(stream, waiting);
    }
    this.#advanceAll();
  }

  #shardOf(conversationId: string): number {
    return hash32(conversationId) % this.#shards.count;
  }

  /** Where the map says that the owner is, if it is reached. */
  #owner(shard: number): DeliveryStream | undefined {
    const owner = this.#shards.owner(shard);
    const stream = owner && this.#streams.get(owner.incarnation);
    return stream?.up === true ? stream : undefined;
  }

  /** One stream for each process that lives. */
  #follow(): void {
    const { present } = this.#peers;
    const live = new Set(present.map(({ id }) => id));
    for (const [id, stream] of this.#streams) {
      if (live.has(id)) continue;
      this.#streams.delete(id);
      void stream.close();
    }
    for (const peer of present) {
      if (this.#streams.has(peer.id)) continue;
      const stream = new DeliveryStream(this.#surroundings, peer, this);
      this.#streams.set(peer.id, stream);
      stream.start();
    }
  }

  /** The map says something new of the shard. */
  #moved(shard: number): void {
    if (this.#shards.owner(shard)?.epoch !== this.#epochs[shard]) this.#open[shard] = undefined;
    this.#advance(shard);
  }

  #hold(shard: number): HeldShard {
    this.#open[shard] = undefined;
    const held = this.#held[shard] ?? new HeldShard();
    this.#held[shard] = held;
    return held;
  }

  #giveBack(stream: DeliveryStream, waiting: Waiting): void {
    if (waiting.operation === undefined) return;
    if (waiting.untilMs !== told && stream.isBehindRefused(waiting)) {
      waiting.untilMs = told;
      this.#fail([waiting], comesAgain);
    }
    this.#again.add();
    waiting.operation = sentAgain(waiting.operation);
    this.#hold(waiting.shard).giveBack(waiting);
  }

  #advanceAll(): void {
    for (let shard = 0; shard < this.#held.length; shard += 1) this.#advance(shard);
  }

  /** Sends one of what is held ahead, where nothing is under way and the owner is there. */
  #advance(shard: number): void {
    const held = this.#held[shard];
    if (held === undefined || this.#closed || this.#underWay[shard] !== 0) return;
    const over = this.#merge(held);
    const owner = this.#shards.owner(shard);
    const stream = this.#owner(shard);
    if (held.size === 0) this.#held[shard] = undefined;
    else if (owner !== undefined && stream !== undefined && !this.#waits(shard, owner.epoch)) {
      this.#epochs[shard] = owner.epoch;
      this.#send(stream, held.shift());
    }
    this.#fail(over, noAnswer);
  }

  /** The owner took what was under way last: the others may follow, if it is the owner still and refused none meanwhile. */
  #shown(shard: number, stream: DeliveryStream): void {
    const held = this.#held[shard];
    if (held === undefined || this.#underWay[shard] !== 0) return;
    const sameEpoch = this.#shards.owner(shard)?.epoch === this.#epochs[shard];
    if (!sameEpoch || held.refused || this.#owner(shard) !== stream) return this.#advance(shard);
    this.#refusals.get(shard)?.cancel?.();
    this.#refusals.delete(shard);
    this.#open[shard] = stream;
    this.#held[shard] = undefined;
    for (const waiting of held.takeAll()) this.#send(stream, waiting);
  }

  #expireHeld(held: HeldShard, nowMs: number, ahead: readonly Waiting[]): void {
    const before = held.size;
    const over = held.expired(nowMs, ahead);
    this.#size -= before - held.size;
    this.#fail(over, noAnswer);
  }

  /** What was told to come again is refused for good: it must not be taken when it does, behind what was to follow it. */
  #refuseHeld(held: HeldShard, waiting: Waiting, { code, message }: Refused): void {
    const over = held.takeOthersOf(waiting);
    this.#size -= over.length;
    for (const one of over) one.failed(code, message, 0);
  }

  #merge(held: HeldShard): Waiting[] {
    const before = held.size;
    const over = held.merge();
    this.#size -= before - held.size;
    return over;
  }

  #send(stream: DeliveryStream, waiting: Waiting | undefined): void {
    if (waiting?.operation === undefined) return;
    const { shard, operation } = waiting;
    this.#underWay[shard] = (this.#underWay[shard] ?? 0) + 1;
    operation.epoch = this.#epochs[shard] ?? 0n;
    stream.send(waiting, operation);
  }

  #refused(shard: number): void {
    const { clock, random } = this.#surroundings;
    const epoch = this.#epochs[shard];
    const before = this.#refusals.get(shard);
    const again = before?.epoch === epoch ? before : undefined;
    if (again?.cancel !== undefined) return;
    before?.cancel?.();
    const backoffMs = again ? Math.min(2 * again.backoffMs, mostBackoffMs) : leastBackoffMs;
    const cancel = clock.after(Math.ceil(backoffMs * (0.5 + random.unit() / 2)), () => {
      refusal.cancel = undefined;
      this.#advance(shard);
    });
    const refusal: Refusal = { epoch, backoffMs, cancel };
    this.#refusals.set(shard, refusal);
  }

  /** Whether the owner under this epoch has refused, and is not to be asked yet. */
  #waits(shard: number, epoch: bigint): boolean {
    const refusal = this.#refusals.get(shard);
    return refusal?.epoch === epoch && refusal.cancel !== undefined;
  }

  #fail(over: readonly Waiting[], why: string): void {
    for (const waiting of over) waiting.failed(Code.Unavailable, why, retryMs);
  }
}
