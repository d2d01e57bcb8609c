/**
 * What a client knows of one conversation: its records in order, what is missing between them, the cursors. Pure: it says what
 * to hand to the app and what to fetch, and knows neither the network nor the app.
 */
import { create } from "@bufbuild/protobuf";
import type { ConversationDelta, HistoryResponse } from "../proto/gen/parley/v1/chat_pb.ts";
import {
  ConversationKind,
  ConversationSchema,
  type Conversation,
  type MembershipChange,
  type Record as LogRecord,
} from "../proto/gen/parley/v1/record_pb.ts";
import { withoutErased } from "./erasing.ts";
import { keepPeers } from "./receipts.ts";

export interface TimelineLimits {
  /** Newest records that are kept. */
  readonly keptMax: number;
  /** Records beyond a hole that are held until it is filled; what is above is fetched again. */
  readonly earlyMax: number;
  /** Records in one request for history. */
  readonly pageMax: number;
}

export interface CursorPair {
  readonly deliveredSeq: number;
  readonly readSeq: number;
}

/** Cursors before `leftSeq` are of the time before; others tell that they were added again, which may not have been handed yet. */
export interface FormerMember extends CursorPair {
  readonly leftSeq: number;
}

/** Seqs that the app is not handed: they can be looked for with `history` where `more` is true. */
export interface Gap {
  readonly from: number;
  readonly to: number;
  readonly more: boolean;
}

/** What came of an input: all of it for the app, in this order. */
export type Outcome = (
  { readonly t: "record"; readonly record: LogRecord } | { readonly t: "gap"; readonly gap: Gap }
)[];

export interface Timeline {
  readonly id: string;
  /** As the server told it, kept in step with what was handed since. */
  summary: Conversation;
  /** The head that the server's summary counted up to. */
  toldTo: number;
  /** The seq to hand next; 0 until it is known where to begin. */
  next: number;
  /** The highest seq that is known to exist. */
  knownHead: number;
  /** Came before their turn, by seq. */
  readonly early: Map<number, LogRecord>;
  /** The newest that were handed, oldest first; without a hole from `keptFrom` on. */
  kept: LogRecord[];
  keptFrom: number;
  /** The last handed record's; undefined where nothing was. */
  ordinal: number | undefined;
  readonly peers: Map<string, CursorPair>;
  /** Removed by what was handed: their cursors are nobody's. They are known on, for those who are added again: nothing goes back. */
  readonly formerMembers: Map<string, FormerMember>;
  left: boolean;
  /** The unread count, or that of the members, is a guess: a sync tells. */
  countStale: boolean;
  /** Answers that did not fill the hole, since anything was handed or named. */
  fruitless: number;
}

const fruitlessMax = 3;
/** Where the server does not show that far yet: what was pushed is committed, and may be seen by readers only later. */
const unseenMax = 60;

export function newTimeline(id: string): Timeline {
  const kind = id.startsWith("g:") ? ConversationKind.GROUP : ConversationKind.DIRECT;
  return {
    id,
    summary: create(ConversationSchema, { conversationId: id, kind }),
    toldTo: 0,
    next: 0,
    knownHead: 0,
    early: new Map(),
    kept: [],
    keptFrom: 0,
    ordinal: undefined,
    peers: new Map(),
    formerMembers: new Map(),
    left: false,
    countStale: false,
    fruitless: 0,
  };
}

/** Records that were pushed, or that the client itself made. */
export function addRecords(
  timeline: Timeline,
  records: readonly LogRecord[],
  me: string,
  limits: TimelineLimits,
): Outcome {
  for (const record of records) note(timeline, record, limits);
  if (timeline.next === 0 && timeline.early.has(1)) beginAt(timeline, 1);
  return advance(timeline, me, limits);
}

/**
 * A sync's part. `initial`: the device had nothing before, so that the conversation begins with its newest records; later a
 * conversation that appears is new from its floor on. A hole longer than `fillMax` is named but for its newest part.
 */
export function applyDelta(
  timeline: Timeline,
  delta: ConversationDelta,
  me: string,
  limits: TimelineLimits,
  how: { initial: boolean; fillMax: number },
): Outcome {
  const told = delta.conversation;
  if (told === undefined) return [];
  const outcome: Outcome = [];
  // A record that was handed since is newer than what an answer on its way says of it: merging counts those again.
  if (told.headSeq >= timeline.toldTo) timeline.left = delta.left;
  merge(timeline, told, me);
  if (timeline.next === 0) {
    const newest = delta.records[0]?.seq ?? told.headSeq + 1;
    beginAt(timeline, how.initial ? newest : Math.max(1, told.floorSeq));
  }
  riseTo(timeline, told.floorSeq, outcome);
  // Of a conversation that the user has left: the record that says so, which may be read still.
  timeline.knownHead = Math.max(timeline.knownHead, told.headSeq);
  for (const record of delta.records) note(timeline, record, limits);
  for (;;) {
    outcome.push(...advance(timeline, me, limits));
    const hole = holeOf(timeline);
    if (hole === undefined || hole.to - hole.from < how.fillMax) return outcome;
    skip(timeline, hole.to - how.fillMax, true, outcome);
  }
}

/** An answer to what `missing` asked for. */
export function applyHistory(
  timeline: Timeline,
  answer: HistoryResponse,
  me: string,
  limits: TimelineLimits,
): Outcome {
  const outcome: Outcome = [];
  const before = timeline.next;
  for (const record of answer.records) note(timeline, record, limits);
  riseTo(timeline, answer.floorSeq, outcome);
  outcome.push(...advance(timeline, me, limits));
  const first = answer.records[0];
  // The answer has later records and not this one: it is not to be had.
  if (timeline.next === before && first !== undefined && first.seq > before) {
    skip(timeline, first.seq - 1, false, outcome);
    outcome.push(...advance(timeline, me, limits));
  }
  if (timeline.next !== before) return outcome;
  timeline.fruitless += 1;
  const most = answer.headSeq < before ? unseenMax : fruitlessMax;
  if (timeline.fruitless >= most) outcome.push(...giveUp(timeline, me, limits));
  return outcome;
}

/** Nothing below can be read any more. */
export function raiseFloor(
  timeline: Timeline,
  floorSeq: number,
  me: string,
  limits: TimelineLimits,
): Outcome {
  const outcome: Outcome = [];
  riseTo(timeline, floorSeq, outcome);
  return [...outcome, ...advance(timeline, me, limits)];
}

/** Names what cannot be had, and goes on after it. */
export function giveUp(timeline: Timeline, me: string, limits: TimelineLimits): Outcome {
  const outcome: Outcome = [];
  const hole = holeOf(timeline);
  timeline.fruitless = 0;
  if (hole === undefined) return outcome;
  skip(timeline, hole.to, false, outcome);
  outcome.push(...advance(timeline, me, limits));
  return outcome;
}

/** The request for history that would fill the first hole, or undefined where there is none. */
export function missing(
  timeline: Timeline,
  limits: TimelineLimits,
): { afterSeq: number; beforeSeq: number; limit: number } | undefined {
  const hole = holeOf(timeline);
  if (hole === undefined) return undefined;
  const to = Math.min(hole.to, hole.from + limits.pageMax - 1);
  return { afterSeq: hole.from - 1, beforeSeq: to + 1, limit: limits.pageMax };
}

function holeOf(timeline: Timeline): { from: number; to: number } | undefined {
  if (timeline.next === 0) return undefined;
  let to = timeline.knownHead;
  for (const seq of timeline.early.keys()) to = Math.min(to, seq - 1);
  return to < timeline.next ? undefined : { from: timeline.next, to };
}

function note(timeline: Timeline, record: LogRecord, limits: TimelineLimits): void {
  if (record.seq < 1) return;
  timeline.knownHead = Math.max(timeline.knownHead, record.seq);
  if (record.seq < timeline.next || timeline.early.has(record.seq)) return;
  timeline.early.set(record.seq, record);
  if (timeline.early.size > limits.earlyMax) {
    timeline.early.delete(Math.max(...timeline.early.keys()));
  }
}

function beginAt(timeline: Timeline, seq: number): void {
  timeline.next = seq;
  timeline.keptFrom = seq;
  forgetEarly(timeline);
}

function forgetEarly(timeline: Timeline): void {
  for (const seq of timeline.early.keys()) {
    if (seq < timeline.next) timeline.early.delete(seq);
  }
}

/** Nothing below the floor can be read any more. */
function riseTo(timeline: Timeline, floorSeq: number, outcome: Outcome): void {
  timeline.summary.floorSeq = Math.max(timeline.summary.floorSeq, floorSeq);
  const hole = holeOf(timeline);
  if (hole !== undefined && floorSeq > hole.from) {
    skip(timeline, Math.min(floorSeq - 1, hole.to), false, outcome);
  }
}

function skip(timeline: Timeline, to: number, more: boolean, outcome: Outcome): void {
  if (to < timeline.next) return;
  outcome.push({ t: "gap", gap: { from: timeline.next, to, more } });
  timeline.next = to + 1;
  timeline.fruitless = 0;
  timeline.keptFrom = timeline.next;
  timeline.ordinal = undefined;
  forgetEarly(timeline);
}

function advance(timeline: Timeline, me: string, limits: TimelineLimits): Outcome {
  const outcome: Outcome = [];
  for (;;) {
    const found = timeline.early.get(timeline.next);
    if (found === undefined) return outcome;
    timeline.early.delete(timeline.next);
    outcome.push({ t: "record", record: hand(timeline, found, me, limits) });
  }
}

/** Hands the next record; one that the client made itself gets its ordinal here. */
function hand(timeline: Timeline, found: LogRecord, me: string, limits: TimelineLimits): LogRecord {
  const { summary } = timeline;
  const before = timeline.ordinal;
  const record = found.ordinal === 0 && before !== undefined ? withOrdinal(found, before) : found;
  timeline.next = record.seq + 1;
  timeline.fruitless = 0;
  timeline.ordinal =
    record.ordinal === 0 && record.body.case === "message" ? undefined : record.ordinal;
  timeline.kept.push(record);
  trim(timeline, limits.keptMax);
  if (record.seq >= summary.headSeq) summary.headTimeMs = record.timeMs;
  summary.headSeq = Math.max(summary.headSeq, record.seq);
  if (record.body.case === "membership") keepPeers(timeline, record, record.body.value);
  if (record.body.case === "erasure")
    timeline.kept = withoutErased(timeline.kept, record.body.value);
  if (record.seq > timeline.toldTo) count(timeline, record, me);
  // Writing reads, too; a change of the members does not.
  if (record.senderId === me && record.body.case === "message") readTo(timeline, record.seq, me);
  return record;
}

function withOrdinal(record: LogRecord, before: number): LogRecord {
  return { ...record, ordinal: record.body.case === "message" ? before + 1 : before };
}

/** Drops the oldest records that are kept beyond `max`. */
export function trim(timeline: Timeline, max: number): number {
  const over = timeline.kept.length - max;
  if (over <= 0) return 0;
  timeline.kept.splice(0, over);
  timeline.keptFrom = Math.max(timeline.keptFrom, timeline.kept[0]?.seq ?? timeline.next);
  return over;
}

/** Takes a record into the summary that the server's told summary did not count. */
function count(timeline: Timeline, record: LogRecord, me: string): void {
  const { summary } = timeline;
  // Who came or went by what is erased is not told.
  if (record.body.case === "membership" && record.erased) timeline.countStale = true;
  if (record.body.case === "membership") changeMembers(timeline, record.seq, record.body.value, me);
  else if (counts(record, me) && record.seq > summary.readSeq) summary.unreadCount += 1;
}

const counts = (record: LogRecord, me: string): boolean =>
  record.body.case === "message" && record.senderId !== me;

function changeMembers(
  timeline: Timeline,
  seq: number,
  change: MembershipChange,
  me: string,
): void {
  const { summary } = timeline;
  const isBack = change.added.includes(me) && summary.memberCount > 0;
  // Who was a member is not counted twice; what else changed between the removal, which was not told, and this is the server's to tell.
  const unseen = isBack && !timeline.left ? 1 : 0;
  if (isBack) timeline.countStale = true;
  const members = summary.memberCount + change.added.length - change.removed.length - unseen;
  summary.memberCount = Math.max(0, members);
  if (change.title !== undefined) summary.title = change.title;
  if (change.removed.includes(me)) timeline.left = true;
  if (!change.added.includes(me)) return;
  timeline.left = false;
  // Who is added, again or for the first time, has read all before.
  summary.readSeq = Math.max(summary.readSeq, seq - 1);
  summary.deliveredSeq = Math.max(summary.deliveredSeq, seq - 1);
  summary.unreadCount = 0;
}

/** Takes a summary over, and counts again what was handed beyond its head. An older one only moves cursors. */
function merge(timeline: Timeline, told: Conversation, me: string): void {
  const before = timeline.summary;
  const older = told.headSeq < timeline.toldTo;
  const base = older ? before : told;
  timeline.summary = {
    ...base,
    headSeq: Math.max(before.headSeq, told.headSeq),
    headTimeMs: before.headSeq > told.headSeq ? before.headTimeMs : told.headTimeMs,
    floorSeq: Math.max(before.floorSeq, told.floorSeq),
    deliveredSeq: Math.max(before.deliveredSeq, told.deliveredSeq),
    peersDeliveredSeq: Math.max(before.peersDeliveredSeq, told.peersDeliveredSeq),
    peersReadSeq: Math.max(before.peersReadSeq, told.peersReadSeq),
  };
  if (older) {
    readTo(timeline, told.readSeq, me);
    return;
  }
  timeline.toldTo = told.headSeq;
  timeline.countStale = false;
  for (const record of timeline.kept) if (record.seq > told.headSeq) count(timeline, record, me);
  readTo(timeline, before.readSeq, me);
}

/** The caller has read up to `seq`, on whichever device. False: it had before. */
export function readTo(timeline: Timeline, seq: number, me: string): boolean {
  const { summary } = timeline;
  const from = summary.readSeq;
  if (seq <= from) return false;
  summary.readSeq = seq;
  summary.deliveredSeq = Math.max(summary.deliveredSeq, seq);
  if (seq >= Math.max(timeline.toldTo, timeline.next - 1)) {
    summary.unreadCount = 0;
    return true;
  }
  let gone = 0;
  for (const record of timeline.kept) {
    if (counts(record, me) && record.seq > from && record.seq <= seq) gone += 1;
  }
  summary.unreadCount = Math.max(0, summary.unreadCount - gone);
  if (timeline.keptFrom > from + 1 || seq >= timeline.next) timeline.countStale = true;
  return true;
}
