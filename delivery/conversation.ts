/**
 * The core of delivery: what a conversation's owner knows and decides. Pure: no promise, socket, timer or log. It assigns; the caller
 * commits what was assigned in that order, or drops the conversation and loads it again.
 */
import { type Place, RecentSends } from "./recent.ts";
import {
  type MembershipChange,
  type RecordKind,
  encodeMembership,
  encodeRecord,
} from "./record.ts";
import { invalid, noConversation } from "../mesh/errors.ts";
import type { Record as ChatRecord } from "../proto/gen/parley/v1/record_pb.ts";
import type {
  Cell,
  ConversationState,
  LeastCursor,
  Member,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { Kind } from "../proto/gen/parley/storage/v1/storage_pb.ts";

/** Up to so many members, each has an index row, sees typing and the others' cursors. */
export const smallGroupMax = 256;
/** A group has at most so many members. */
export const membersMax = 100_000;

/** A user in the conversation, present or former (then `leftSeq` > 0). */
export interface MemberState {
  floorSeq: number;
  leftSeq: number;
  deliveredSeq: number;
  readSeq: number;
  readOrdinal: number;
}

export type Verdict =
  | { readonly kind: "duplicate"; readonly place: Place }
  | { readonly kind: "appended"; readonly place: Place; readonly cell: Cell };

export class Conversation {
  readonly id: string;
  /** Of the ownership under which it was loaded: its records are written under it. */
  readonly epoch: bigint;
  /** False once it was dropped: what still runs on it must not be kept. */
  open = true;
  kind: Kind;
  title = "";
  /** The head as assigned; committed follows. */
  headSeq = 0;
  headOrdinal = 0;
  headTimeMs = 0;
  headTerm = 0n;
  /** All up to here is committed and indexed. */
  committedSeq = 0;
  /** Memory has every send above it. */
  #rememberedSeq = 0;
  memberCount = 0;
  readonly members = new Map<string, MemberState>();
  /** Who of a direct conversation's users is erased: nobody writes to it any more. */
  readonly erased = new Set<string>();
  readonly #recent = new RecentSends();
  /** Where the ordinals that can be computed begin, and which seqs after it do not count. */
  #baseSeq = 0;
  #baseOrdinal = 0;
  readonly #uncounted: number[] = [];
  #audience: string[] | undefined;

  constructor(id: string, kind: Kind, epoch: bigint) {
    this.id = id;
    this.kind = kind;
    this.epoch = epoch;
  }

  get exists(): boolean {
    return this.headSeq > 0;
  }

  /** Present members. The array is shared, never changed: a new one is made when members come or go. */
  get audience(): string[] {
    if (this.#audience === undefined) {
      this.#audience = [];
      for (const [userId, member] of this.members)
        if (member.leftSeq === 0 && !this.erased.has(userId)) this.#audience.push(userId);
    }
    return this.#audience;
  }

  /** Nothing by the user is taken any more, and nothing for them alone. */
  erase(userId: string): void {
    this.erased.add(userId);
    this.#audience = undefined;
  }

  /** Takes what storage has at the index head. */
  restore(state: ConversationState): void {
    this.kind = state.kind;
    this.title = state.title;
    this.headSeq = this.committedSeq = this.#baseSeq = this.#rememberedSeq = state.headSeq;
    this.headOrdinal = this.#baseOrdinal = state.headOrdinal;
    this.headTimeMs = Number(state.headTimeMs);
    this.headTerm = state.headTerm;
  }

  restoreMember(member: Member): void {
    const { floorSeq, leftSeq, deliveredSeq, readSeq, readOrdinal } = member;
    this.members.set(member.userId, { floorSeq, leftSeq, deliveredSeq, readSeq, readOrdinal });
    if (leftSeq === 0) this.memberCount += 1;
    this.#audience = undefined;
  }

  present(userId: string): MemberState {
    const member = this.members.get(userId);
    if (member === undefined || member.leftSeq !== 0 || this.erased.has(userId))
      throw noConversation(this.id);
    return member;
  }

  /** Where a send that comes again was put, as far as that is remembered. */
  earlier(senderId: string, clientId: Uint8Array): Place | undefined {
    return this.#recent.find(senderId, clientId);
  }

  /** Up to where the log must be searched for an earlier try of a send that memory does not know. */
  searchedUpTo(): number {
    this.#recent.retried();
    return this.#rememberedSeq;
  }

  /** A message by a member; a direct conversation begins with its first one. */
  append(
    senderId: string,
    clientId: Uint8Array,
    content: Uint8Array,
    nowMs: number,
    sender = this.present(senderId),
  ): Verdict {
    const before = this.#recent.find(senderId, clientId);
    if (before !== undefined) return { kind: "duplicate", place: before };
    const cell = this.#record(senderId, clientId, "message", content, nowMs);
    const place = { seq: cell.seq, timeMs: this.headTimeMs };
    this.#recent.add(senderId, clientId, place.seq, place.timeMs);
    sender.deliveredSeq = sender.readSeq = cell.seq;
    sender.readOrdinal = this.headOrdinal;
    return { kind: "appended", place, cell };
  }

  /** A membership change that changes something (see groups.ts). */
  change(userId: string, clientId: Uint8Array, change: MembershipChange, nowMs: number): Cell {
    const cell = this.#record(userId, clientId, "membership", encodeMembership(change), nowMs);
    this.#recent.add(userId, clientId, cell.seq, this.headTimeMs);
    this.#applyChange(change, cell.seq);
    return cell;
  }

  /** Tells of records that are erased: by nobody, and counted as no message. `erasure` is a parley.v1.Erasure. */
  tellErased(erasure: Uint8Array, nowMs: number): Cell {
    return this.#record("", new Uint8Array(0), "erasure", erasure, nowMs);
  }

  /** Takes over a record that an earlier owner wrote: it keeps its term, and is written again under the new epoch. */
  adopt(
    { seq, term }: Cell,
    { senderId, clientId, timeMs: time }: Pick<ChatRecord, "senderId" | "clientId" | "timeMs">,
    countable: boolean,
    change?: MembershipChange,
  ): void {
    const timeMs = Number(time);
    this.#advance(seq, term, countable, timeMs);
    this.#recent.add(senderId, clientId, seq, timeMs);
    if (change !== undefined) this.#applyChange(change, seq);
    const sender = this.members.get(senderId);
    if (sender !== undefined && countable) {
      sender.deliveredSeq = sender.readSeq = seq;
      sender.readOrdinal = this.headOrdinal;
    }
  }

  /** Both users of a direct conversation, as from its first record on. */
  begin(userIds: readonly string[]): void {
    for (const userId of userIds) this.#join(userId, 1);
  }

  /**
   * Moves a member's cursor forward. `readOrdinal` is the ordinal at `readSeq`. Answers whether anything moved.
   * Throws where the cursor is beyond the head.
   */
  moveCursor(
    member: MemberState,
    deliveredSeq: number,
    readSeq: number,
    readOrdinal: number,
  ): boolean {
    const delivered = Math.max(deliveredSeq, readSeq, member.deliveredSeq);
    const moved = delivered > member.deliveredSeq || readSeq > member.readSeq;
    member.deliveredSeq = delivered;
    if (readSeq > member.readSeq) {
      member.readSeq = readSeq;
      member.readOrdinal = readOrdinal;
    }
    return moved;
  }

  checkCursor(deliveredSeq: number, readSeq: number): void {
    const highest = Math.max(deliveredSeq, readSeq);
    if (highest > this.headSeq) {
      throw invalid(
        `the cursor is at ${highest}, beyond the conversation's head ${this.headSeq}: sync first`,
      );
    }
  }

  /** How many messages the log has up to `seq`; undefined where the log must be asked. */
  ordinalAt(seq: number): number | undefined {
    if (seq === 0) return 0;
    if (this.kind === Kind.DIRECT) return seq;
    if (seq === this.headSeq) return this.headOrdinal;
    if (seq < this.#baseSeq) return undefined;
    let ordinal = this.#baseOrdinal + (seq - this.#baseSeq);
    for (let at = this.#uncounted.length - 1; at >= 0; at -= 1) {
      const uncounted = this.#uncounted[at];
      if (uncounted !== undefined && uncounted <= seq) {
        ordinal -= at + 1;
        break;
      }
    }
    return ordinal;
  }

  /** What storage keeps of the conversation as a whole. */
  state(): ConversationState {
    const small = this.memberCount <= smallGroupMax;
    return {
      $typeName: "parley.storage.v1.ConversationState",
      kind: this.kind,
      title: this.title,
      headSeq: this.headSeq,
      headOrdinal: this.headOrdinal,
      headTimeMs: BigInt(this.headTimeMs),
      headTerm: this.headTerm,
      memberCount: this.memberCount,
      leastDelivered: small ? this.#least("deliveredSeq") : noLeast,
      leastRead: small ? this.#least("readSeq") : noLeast,
    };
  }

  memberRow(userId: string): Member | undefined {
    const member = this.members.get(userId);
    if (member === undefined) return undefined;
    const { floorSeq, leftSeq, deliveredSeq, readSeq, readOrdinal } = member;
    const $typeName = "parley.storage.v1.Member";
    return { $typeName, userId, floorSeq, leftSeq, deliveredSeq, readSeq, readOrdinal };
  }

  /** All up to `seq` is committed: nobody asks for duplicates of old first tries any more. */
  committed(seq: number): void {
    if (seq > this.committedSeq) this.committedSeq = seq;
    this.#rememberedSeq = Math.max(this.#rememberedSeq, this.#recent.forget(seq));
  }

  #record(
    senderId: string,
    clientId: Uint8Array,
    kind: RecordKind,
    body: Uint8Array,
    nowMs: number,
  ): Cell {
    const { epoch, headTerm: previousTerm } = this;
    this.#advance(this.headSeq + 1, epoch, kind === "message", Math.max(nowMs, this.headTimeMs));
    const record = encodeRecord({
      conversationId: this.id,
      seq: this.headSeq,
      senderId,
      clientId,
      timeMs: this.headTimeMs,
      ordinal: this.headOrdinal,
      kind,
      body,
    });
    const $typeName = "parley.storage.v1.Cell";
    return { $typeName, seq: this.headSeq, epoch, term: epoch, previousTerm, record };
  }

  #advance(seq: number, term: bigint, countable: boolean, timeMs: number): void {
    this.headSeq = seq;
    this.headTerm = term;
    this.headTimeMs = timeMs;
    if (countable) this.headOrdinal += 1;
    else this.#uncounted.push(seq);
  }

  #applyChange(change: MembershipChange, seq: number): void {
    if (change.title !== undefined) this.title = change.title;
    for (const userId of change.removed) {
      const member = this.members.get(userId);
      if (member === undefined || member.leftSeq !== 0) continue;
      member.leftSeq = seq;
      this.memberCount -= 1;
    }
    for (const userId of change.added) this.#join(userId, seq);
    this.#audience = undefined;
  }

  #join(userId: string, seq: number): void {
    const before = this.members.get(userId);
    if (before !== undefined && before.leftSeq === 0) return;
    const readOrdinal = this.ordinalAt(seq - 1) ?? this.headOrdinal;
    const start = {
      floorSeq: seq,
      leftSeq: 0,
      deliveredSeq: seq - 1,
      readSeq: seq - 1,
      readOrdinal,
    };
    this.members.set(userId, start);
    this.memberCount += 1;
    this.#audience = undefined;
  }

  #least(cursor: "deliveredSeq" | "readSeq"): LeastCursor {
    let userId = "";
    let seq = 0;
    let secondSeq = Number.MAX_SAFE_INTEGER;
    for (const [id, member] of this.members) {
      if (member.leftSeq !== 0) continue;
      const at = member[cursor];
      if (userId === "" || at < seq) {
        if (userId !== "") secondSeq = seq;
        userId = id;
        seq = at;
      } else if (at < secondSeq) secondSeq = at;
    }
    if (secondSeq === Number.MAX_SAFE_INTEGER) secondSeq = this.headSeq;
    if (this.erased.has(userId)) userId = "";
    return { $typeName: "parley.storage.v1.LeastCursor", userId, seq, secondSeq };
  }
}

const noLeast: LeastCursor = {
  $typeName: "parley.storage.v1.LeastCursor",
  userId: "",
  seq: 0,
  secondSeq: 0,
};
