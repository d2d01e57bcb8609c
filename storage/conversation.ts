/** One conversation in the embedded store's memory: what the tables lack of it, over what they have. It must not know how things become durable. */
import type {
  Cell,
  ConversationState,
  ConversationWrite,
  LeastCursor,
  Member,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { readCell, Reader } from "./codec.ts";
import type { Region } from "./codec.ts";
import { directUsers } from "../mesh/ids.ts";
import type { KeptLog } from "./history.ts";
import { mergeMember, mergeState } from "./history.ts";
import type { Tables } from "./tables.ts";
import { inlineMembersMax } from "./tables.ts";

/**
 * A cell that the tables lack, as the journal has it: an object of three fields lives until the next checkpoint, and not the
 * message with all its parts, which would cost the garbage collector more than all the rest.
 */
export interface EncodedCell {
  readonly region: Region;
  readonly from: number;
  readonly to: number;
}

/** As it is kept. */
export function decoded({ region, from, to }: EncodedCell): Cell {
  return readCell(new Reader(region.bytes.subarray(region.base + from, region.base + to)));
}

/** A conversation as it was at one moment, as far as the tables lack it. */
export interface Flush {
  readonly conversation: Conversation;
  /** Undefined: it is gone, and there is nothing of it. */
  readonly state: ConversationState | undefined;
  readonly spilled: boolean;
  readonly members: readonly Member[];
  /** Those of the members whose membership rows the tables lack. */
  readonly newcomers: ReadonlySet<string>;
  readonly firstSeq: number;
  readonly cells: readonly EncodedCell[];
  /** What takes the place of cells that the tables may have. */
  readonly rewritten: ReadonlyMap<number, EncodedCell>;
  /** Below, the tables may have cells and must not; 0: they have none. */
  readonly trimTo: number;
  /** Whose rows the tables may have and must not. */
  readonly gone: ReadonlySet<string>;
  /** How often it was removed: what the tables have of it goes first. */
  readonly removals: number;
}

/** Left by erasure: of a direct conversation, where nobody else leaves, the other one still sees how far they had read. */
const hiddenSeq = 0xffff_ffff;
/** Who is hidden has no name: `everybody` has it from the conversation's id. */
const noName = "";
const isHidden = ({ leftSeq }: Member): boolean => leftSeq === hiddenSeq;

export class Conversation implements KeptLog {
  readonly id: string;
  /** At the index head: what readers see. */
  state: ConversationState | undefined;
  /** The head with the writes that wait for their commit; without them it is that of `state`. */
  headSeq: number;
  headTerm: bigint;
  /** Has changed since the last flush was taken. */
  dirty = false;
  /** A flush was taken whose end is not known. */
  flushing = false;
  /** Was used since the sweep passed. */
  used = true;
  /** The last batch that was checked against it: to find one that names it twice. */
  batch = 0;
  readonly #tables: Tables;
  /** Whether the tables have anything of it. */
  #stored: boolean;
  /** What the tables lack of the log, up to headSeq. Those above the state's head are nobody's to see yet. */
  #cells: EncodedCell[] = [];
  /** Whether members have rows of their own. `#members` has all of them, or, where spilled, those that the tables lack. */
  #spilled: boolean;
  readonly #members = new Map<string, Member>();
  #order: string[] | undefined;
  #newcomers = new Set<string>();
  readonly #rewritten = new Map<number, EncodedCell>();
  readonly #gone = new Set<string>();
  #trimTo = 0;
  #removals = 0;

  constructor(id: string, tables: Tables) {
    this.id = id;
    this.#tables = tables;
    const row = tables.conversation(id);
    this.state = row?.state;
    this.headSeq = row?.state.headSeq ?? 0;
    this.headTerm = row?.state.headTerm ?? 0n;
    this.#stored = row !== undefined;
    this.#spilled = row?.spilled ?? false;
    for (const member of row?.members ?? []) this.#members.set(member.userId, member);
  }

  get topSeq(): number {
    return this.headSeq;
  }

  get #firstSeq(): number {
    return this.headSeq - this.#cells.length + 1;
  }

  cellAt(seq: number): Cell | undefined {
    const cell = this.#rewritten.get(seq) ?? this.#cells[seq - this.#firstSeq];
    if (cell === undefined && this.#removals > 0) return undefined;
    return cell === undefined ? this.#tables.cells(this.id, seq, seq)[0] : decoded(cell);
  }

  /** Takes up a cell that was found to link, as it is encoded. It is seen once `apply` raises the state. */
  plan({ seq, term }: Cell, encoded: EncodedCell): void {
    this.#cells.push(encoded);
    this.headSeq = seq;
    this.headTerm = term;
  }

  /** Takes back the cells that were planned last. */
  unplan(count: number): void {
    this.#cells.length -= count;
    const last = this.#cells.at(-1);
    const { seq, term } = last === undefined ? { seq: undefined, term: undefined } : decoded(last);
    this.headSeq = seq ?? this.state?.headSeq ?? 0;
    this.headTerm = term ?? this.state?.headTerm ?? 0n;
  }

  /** Tells of users who were no members before. */
  apply({ state, members }: ConversationWrite, newcomer: (userId: string) => void): void {
    if (state !== undefined) this.state = this.#unnamed(mergeState(this.state, state));
    const closed = this.#members.has(noName);
    for (const member of members) {
      // An owner's late word on who is erased.
      if (closed && !this.#members.has(member.userId)) continue;
      const kept = this.member(member.userId);
      const merged = mergeMember(kept, member);
      if (merged === kept) continue;
      if (!this.#members.has(member.userId)) this.#order = undefined;
      this.#members.set(member.userId, merged);
      if (this.#members.size > inlineMembersMax) this.#spilled = true;
      if (kept !== undefined) continue;
      this.#newcomers.add(member.userId);
      newcomer(member.userId);
    }
  }

  /** What an erasure leaves of a cell up to the head. */
  rewrite(seq: number, encoded: EncodedCell): void {
    this.#rewritten.set(seq, encoded);
  }

  /** Cells below are gone, for good. */
  trim(floorSeq: number): void {
    this.#trimTo = Math.max(this.#trimTo, floorSeq);
    for (const seq of this.#rewritten.keys()) if (seq < floorSeq) this.#rewritten.delete(seq);
  }

  /** Whether the next flush has to remove something still. */
  get trims(): boolean {
    return this.#trimTo > 0;
  }

  /** An erased user goes. Answers whether the tables may have their rows; hidden: they stay to be known by `everybody` alone. */
  forget(userId: string, hidden: boolean): void {
    const member = this.#members.get(userId);
    this.#members.delete(userId);
    if (hidden && member !== undefined)
      this.#members.set(noName, { ...member, userId: noName, leftSeq: hiddenSeq });
    if (this.state !== undefined) this.state = this.#unnamed(this.state);
    this.#newcomers.delete(userId);
    this.#gone.add(userId);
    this.#order = undefined;
  }

  /** Of a direct conversation that one is erased from: without their name. */
  #unnamed(state: ConversationState): ConversationState {
    if (!this.#members.has(noName)) return state;
    const unnamed = (least: LeastCursor | undefined): LeastCursor | undefined =>
      least === undefined || this.#members.has(least.userId) ? least : { ...least, userId: noName };
    return {
      ...state,
      leastDelivered: unnamed(state.leastDelivered),
      leastRead: unnamed(state.leastRead),
    };
  }

  /** Nobody has it any more: there is nothing of it, for good. */
  remove(): void {
    this.#removals += 1;
    for (const userId of this.#members.keys()) this.#gone.add(userId);
    this.state = undefined;
    this.headSeq = 0;
    this.headTerm = 0n;
    this.#stored = this.#spilled = false;
    this.#cells = [];
    this.#members.clear();
    this.#order = undefined;
    this.#newcomers.clear();
    this.#rewritten.clear();
    this.#trimTo = 0;
  }

  member(userId: string): Member | undefined {
    const member = this.#members.get(userId);
    if (member !== undefined) return isHidden(member) ? undefined : member;
    if (!this.#spilled || !this.#stored || this.#gone.has(userId)) return undefined;
    return this.#tables.member(this.id, userId);
  }

  /** The first of all, hidden ones as if they were members. */
  everybody(limit: number): Member[] {
    const hidden = [...this.#members.values()].filter(isHidden);
    const shown = this.membersAfter("", limit);
    if (hidden.length === 0) return shown;
    const isShown = (userId: string): boolean => shown.some((member) => member.userId === userId);
    const userId = directUsers(this.id)?.find((user) => !isShown(user)) ?? noName;
    return [...shown, ...hidden.map((member) => ({ ...member, userId, leftSeq: 0 }))];
  }

  /** By user id. */
  membersAfter(afterUserId: string, limit: number): Member[] {
    this.#order ??= [...this.#members.keys()].sort();
    const from = firstAfter(this.#order, afterUserId);
    const here = this.#order
      .slice(from, from + limit)
      .flatMap((userId) => this.#members.get(userId) ?? []);
    if (!this.#spilled || !this.#stored) return here.filter((member) => !isHidden(member));
    const stored = this.#tables.membersAfter(this.id, afterUserId, limit + this.#gone.size);
    const kept = stored.filter(({ userId }) => !this.#gone.has(userId));
    return merged(here, kept, limit);
  }

  cells(firstSeq: number, lastSeq: number): Cell[] {
    const cells = this.#written(Math.max(firstSeq, this.#trimTo), lastSeq);
    if (this.#rewritten.size === 0) return cells;
    return cells.map((cell) => {
      const rewritten = this.#rewritten.get(cell.seq);
      return rewritten === undefined ? cell : decoded(rewritten);
    });
  }

  #written(firstSeq: number, lastSeq: number): Cell[] {
    const last = Math.min(lastSeq, this.state?.headSeq ?? 0);
    const first = this.#firstSeq;
    const stored =
      firstSeq < first ? this.#tables.cells(this.id, firstSeq, Math.min(last, first - 1)) : [];
    if (last < first) return stored;
    const here = this.#cells.slice(Math.max(firstSeq - first, 0), last - first + 1).map(decoded);
    return stored.length === 0 ? here : [...stored, ...here];
  }

  /** What the tables lack, or undefined where that is nothing. One flush at a time; `flushed` or `unflushed` must follow. */
  flush(): Flush | undefined {
    this.dirty = false;
    const { state } = this;
    if (state === undefined && this.#removals === 0 && this.#gone.size === 0) return undefined;
    this.flushing = true;
    const firstSeq = this.#firstSeq;
    const newcomers = this.#newcomers;
    this.#newcomers = new Set();
    return {
      conversation: this,
      state,
      spilled: this.#spilled,
      members: [...this.#members.values()],
      newcomers,
      firstSeq,
      cells: this.#toFlush(firstSeq, state?.headSeq ?? 0),
      rewritten: new Map(this.#rewritten),
      trimTo: this.#trimTo,
      gone: new Set(this.#gone),
      removals: this.#removals,
    };
  }

  #toFlush(firstSeq: number, headSeq: number): EncodedCell[] {
    const cells = this.#cells.slice(0, headSeq - firstSeq + 1);
    if (this.#rewritten.size === 0) return cells;
    return cells.map((cell, at) => this.#rewritten.get(firstSeq + at) ?? cell);
  }

  flushed(flush: Flush): void {
    const { cells, members, spilled, rewritten, gone, trimTo, firstSeq, removals, state } = flush;
    this.flushing = false;
    this.#removals -= removals;
    // Removed since: the next flush takes away what this one brought.
    if (this.#removals > 0) return;
    this.#stored = state !== undefined;
    this.#cells = this.#cells.slice(cells.length);
    for (const [seq, cell] of rewritten)
      if (this.#rewritten.get(seq) === cell) this.#rewritten.delete(seq);
    for (const userId of gone) this.#gone.delete(userId);
    // What was in memory alone when it was trimmed is in the tables since.
    if (trimTo === this.#trimTo && trimTo <= firstSeq) this.#trimTo = 0;
    if (!spilled) return;
    this.#order = undefined;
    for (const member of members) {
      if (this.#members.get(member.userId) === member) this.#members.delete(member.userId);
    }
  }

  unflushed({ newcomers, removals }: Flush): void {
    this.flushing = false;
    if (this.#removals > removals) return;
    for (const userId of newcomers) this.#newcomers.add(userId);
  }
}

/** The index of the first id that is greater than `id`. */
function firstAfter(ids: readonly string[], id: string): number {
  let from = 0;
  let to = ids.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    const there = ids[middle];
    if (there !== undefined && there > id) to = middle;
    else from = middle + 1;
  }
  return from;
}

/** Both in order; of two of one user the newer one. */
function merged(newer: readonly Member[], older: readonly Member[], limit: number): Member[] {
  const all: Member[] = [];
  let at = 0;
  for (const member of older) {
    for (let next = newer[at]; next && next.userId < member.userId; next = newer[at]) {
      all.push(next);
      at += 1;
    }
    const next = newer[at];
    if (next?.userId !== member.userId) all.push(member);
  }
  return [...all, ...newer.slice(at)].slice(0, limit);
}
