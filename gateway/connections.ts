/** All connections of a gateway, by number and by user. It must not know what kind of connection each one is. */
import type { CloseReason } from "../proto/gen/parley/v1/chat_pb.ts";
import { networkOf } from "./network.ts";
import type { SharedPush } from "./pushes.ts";
import { Places } from "./quota.ts";
import type { Round } from "./sweep.ts";
import type { Unsettled } from "./unacked.ts";

/** What operators see of how far a connection is. */
export interface Inspected {
  readonly stage: "greeting" | "attaching" | "syncing" | "live" | "ending";
  /** What it was pushed of the conversation and has not acked. */
  readonly unacked: Unsettled | undefined;
}

/** Whoever is reachable here: a WebSocket, a Subscribe stream, a long poll that waits. */
export interface Recipient {
  /** Unique within the gateway's life, counting up. */
  readonly number: number;
  readonly kind: "websocket" | "subscribe" | "poll";
  /** Both empty until the device has said who it is. */
  readonly userId: string;
  readonly deviceId: string;
  /** Milliseconds since 1970-01-01 UTC. */
  readonly sinceMs: number;
  readonly remoteAddress: string;
  readonly outboxBytes: number;
  /** Session knows it: what is committed from now on is pushed to it. Called once. */
  attached(): void;
  push(push: SharedPush, nowMs: number): void;
  /** A device of the same user has got all of the conversation up to this seq. */
  acked(conversationId: string, deliveredSeq: number): void;
  /** `nowMs` is the monotonic clock's. */
  inspect(conversationId: string, nowMs: number): Inspected;
  /** What time alone makes due; `nowMs` is the monotonic clock's. */
  tick(nowMs: number, round: Round): void;
  /** `url`: where its device should come back; "" or absent: to where it came from. */
  end(reason: CloseReason, text: string, reconnectAfterMs: number, url?: string): void;
}

export class Connections {
  readonly #all = new Map<number, Recipient>();
  readonly #users = new Map<string, Recipient[]>();
  readonly #max: number;
  readonly #perUserMax: number;
  /** Of those that have not said who they are: a place of their network each, which they give back. */
  readonly #strangers = new Map<Recipient, () => void>();
  readonly #strangersPlaces: Places;
  #last: number;
  #closed = false;
  #emptied: (() => void)[] = [];

  /** Numbers follow on `last`. It is another in each life of a gateway, so that no connection is taken for one of an earlier life. */
  constructor(max: number, perUserMax: number, strangersPerAddressMax: number, last = 0) {
    this.#strangersPlaces = new Places(strangersPerAddressMax);
    this.#max = max;
    this.#perUserMax = perUserMax;
    this.#last = last;
  }

  get size(): number {
    return this.#all.size;
  }

  get full(): boolean {
    return this.#all.size >= this.#max;
  }

  /** Whether the network of this address has too many that have not said who they are. */
  crowded(address: string): boolean {
    return this.#strangersPlaces.full(networkOf(address));
  }

  /** Whether no new ones are taken, for good. */
  get closed(): boolean {
    return this.#closed;
  }

  close(): void {
    this.#closed = true;
  }

  /** A number for the next connection. */
  next(): number {
    this.#last += 1;
    return this.#last;
  }

  add(recipient: Recipient): void {
    this.#all.set(recipient.number, recipient);
    if (recipient.userId !== "") return;
    const leave = this.#strangersPlaces.take(networkOf(recipient.remoteAddress));
    if (leave !== undefined) this.#strangers.set(recipient, leave);
  }

  /** Enters it under its user; false where the user has too many already. */
  join(recipient: Recipient): boolean {
    this.#known(recipient);
    const present = this.#users.get(recipient.userId);
    if (present === undefined) {
      this.#users.set(recipient.userId, [recipient]);
      return true;
    }
    if (present.length >= this.#perUserMax) return false;
    present.push(recipient);
    return true;
  }

  /** Takes it from its user: it is no longer a device's connection, though its socket may still be closing. */
  leave(recipient: Recipient): void {
    const present = this.#users.get(recipient.userId);
    const at = present?.indexOf(recipient) ?? -1;
    if (present === undefined || at === -1) return;
    if (present.length === 1) this.#users.delete(recipient.userId);
    else present.splice(at, 1);
  }

  remove(recipient: Recipient): void {
    this.leave(recipient);
    this.#known(recipient);
    this.#all.delete(recipient.number);
    if (this.#all.size > 0) return;
    const emptied = this.#emptied;
    this.#emptied = [];
    for (const tell of emptied) tell();
  }

  /** It has said who it is, or never will. */
  #known(recipient: Recipient): void {
    this.#strangers.get(recipient)?.();
    this.#strangers.delete(recipient);
  }

  get(number: number): Recipient | undefined {
    return this.#all.get(number);
  }

  /** In order of their numbers. */
  all(): IterableIterator<Recipient> {
    return this.#all.values();
  }

  ofUser(userId: string): readonly Recipient[] {
    return this.#users.get(userId) ?? [];
  }

  /** Resolves when there are none. */
  empty(): Promise<void> {
    if (this.#all.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#emptied.push(resolve));
  }
}
