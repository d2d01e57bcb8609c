/** Who has got and read the caller's own messages: a timeline's cursors, read as states of messages. Pure. */
import {
  ConversationKind,
  type Cursor,
  type MembershipChange,
  type Record as LogRecord,
} from "../proto/gen/parley/v1/record_pb.ts";
import type { CursorPair, Timeline } from "./timeline.ts";

/** Above this many members the server tells cursors only where asked. */
const peersMax = 256;
/** Late cursors come within seconds: only the last ones to leave matter. */
const formerMembersMax = 256;

export type ReceiptStatus = "sent" | "delivered" | "read";

/** How far an own message has come. "delivered" and "read": by all the others. */
export interface Receipt {
  readonly status: ReceiptStatus;
  /** How many of the others are known to have got it, and read it. */
  readonly delivered: number;
  readonly read: number;
  /** How many others there are. */
  readonly of: number;
}

export interface CursorMove {
  readonly before: CursorPair;
  readonly now: CursorPair;
}

/** Takes another member's cursor over; both parts only grow. Undefined: nothing new, or of somebody who is no member any more. */
export function moveCursor(timeline: Timeline, cursor: Cursor): CursorMove | undefined {
  const { peers, formerMembers, summary } = timeline;
  const { userId } = cursor;
  const former = formerMembers.get(userId);
  const known = former ?? peers.get(userId);
  if (known === undefined && peers.size >= peersMax) return undefined;
  const before = { deliveredSeq: known?.deliveredSeq ?? 0, readSeq: known?.readSeq ?? 0 };
  const now = {
    deliveredSeq: Math.max(before.deliveredSeq, cursor.deliveredSeq, cursor.readSeq),
    readSeq: Math.max(before.readSeq, cursor.readSeq),
  };
  const isSame = before.deliveredSeq === now.deliveredSeq && before.readSeq === now.readSeq;
  if (known !== undefined && isSame) return undefined;
  // Of those who may have left it is known by a move that they did not.
  if (former?.leftSeq === 0) formerMembers.delete(userId);
  else if (former !== undefined) {
    if (now.deliveredSeq < former.leftSeq) return undefined;
    // Added again by a record that was not handed yet: counted among the others from then on.
    formerMembers.set(userId, { ...former, ...now });
    return { before, now };
  }
  peers.set(userId, now);
  if (peers.size >= othersOf(timeline)) {
    const all = [...peers.values()];
    const leastDelivered = Math.min(...all.map((peer) => peer.deliveredSeq));
    const leastRead = Math.min(...all.map((peer) => peer.readSeq));
    summary.peersDeliveredSeq = Math.max(summary.peersDeliveredSeq, leastDelivered);
    summary.peersReadSeq = Math.max(summary.peersReadSeq, leastRead);
  }
  return { before, now };
}

/** Whose cursors count, whether the server's summary knew of the change or not. */
export function keepPeers(
  timeline: Timeline,
  { seq, erased }: LogRecord,
  { added, removed }: MembershipChange,
): void {
  const { peers, formerMembers } = timeline;
  // It does not say who is erased, and may have been their going: whose cursor moves on is there.
  if (erased) {
    for (const [user, known] of peers) formerMembers.set(user, { ...known, leftSeq: 0 });
    peers.clear();
  }
  for (const user of added) {
    const former = formerMembers.get(user);
    if (former === undefined) continue;
    formerMembers.delete(user);
    const { deliveredSeq, readSeq } = former;
    if (deliveredSeq > 0) peers.set(user, { deliveredSeq, readSeq });
  }
  for (const user of removed) {
    const known = peers.get(user) ?? { deliveredSeq: 0, readSeq: 0 };
    peers.delete(user);
    formerMembers.set(user, { ...known, leftSeq: seq });
  }
  for (const user of formerMembers.keys()) {
    if (formerMembers.size <= formerMembersMax) break;
    formerMembers.delete(user);
  }
}

export function receiptOf(timeline: Timeline, seq: number): Receipt {
  const of = othersOf(timeline);
  const { peersDeliveredSeq, peersReadSeq } = timeline.summary;
  const delivered = reached(timeline, seq, of, peersDeliveredSeq, (peer) => peer.deliveredSeq);
  const read = reached(timeline, seq, of, peersReadSeq, (peer) => peer.readSeq);
  const everyone = (number: number): boolean => of > 0 && number >= of;
  const status = everyone(read) ? "read" : everyone(delivered) ? "delivered" : "sent";
  return { status, delivered, read, of };
}

/** The caller's own messages among those kept. */
export function ownMessages(timeline: Timeline, me: string): LogRecord[] {
  return timeline.kept.filter((record) => record.senderId === me && record.body.case === "message");
}

function othersOf(timeline: Timeline): number {
  const { summary } = timeline;
  const unknown = summary.memberCount === 0 && summary.kind === ConversationKind.DIRECT;
  return unknown ? 1 : Math.max(0, summary.memberCount - 1);
}

function reached(
  timeline: Timeline,
  seq: number,
  of: number,
  least: number,
  cursorOf: (peer: { deliveredSeq: number; readSeq: number }) => number,
): number {
  if (least >= seq) return of;
  let number = 0;
  for (const peer of timeline.peers.values()) if (cursorOf(peer) >= seq) number += 1;
  return Math.min(number, of);
}
