/** What the chat's screen is drawn from: values only, nothing that acts. */
import type {
  Content,
  ConversationView,
  Record as LogRecord,
  TransportName,
} from "../client/index.ts";
import { withoutErased } from "../client/index.ts";
import { type Editor, emptyEditor } from "./chat-editor.ts";

export type Link =
  | { readonly t: "connecting" }
  | { readonly t: "live"; readonly transport: TransportName }
  | { readonly t: "waiting"; readonly untilMs: number; readonly why: string }
  | { readonly t: "stopped"; readonly why: string };

/** An own message that is not in the log yet, or was refused. */
export interface Outgoing {
  readonly clientId: string;
  readonly content: Content;
  readonly failed: string | undefined;
}

export interface SeqRange {
  readonly from: number;
  readonly to: number;
}

export interface OpenConversation {
  readonly id: string;
  /** Undefined: it is not known, or begins with its first message. */
  readonly view: ConversationView | undefined;
  /** The other one of a direct conversation. */
  readonly peerId: string | undefined;
  /** In order of seq; what lacks between them is not loaded. */
  readonly records: readonly LogRecord[];
  readonly outgoing: readonly Outgoing[];
  /** What lies above was unread when it was opened; undefined: nothing. */
  readonly newAfterSeq: number | undefined;
  /** What cannot be had. */
  readonly lost: readonly SeqRange[];
  readonly loading: boolean;
  /** A group's members, as far as they are known. */
  readonly members: readonly string[];
  /** Who is typing, and until when that is believed. */
  readonly typing: ReadonlyMap<string, number>;
}

export interface Seen {
  readonly online: boolean;
  /** 0: never. */
  readonly lastSeenMs: number;
}

export interface ChatState {
  readonly me: string;
  readonly link: Link;
  /** The one that changed last first. */
  readonly conversations: readonly ConversationView[];
  /** Undefined: the list is shown. */
  readonly open: OpenConversation | undefined;
  /** The chosen row of the list. */
  readonly selected: number;
  readonly presences: ReadonlyMap<string, Seen>;
  /** What the last command had to say. */
  readonly notice: readonly string[];
  readonly editor: Editor;
  /** How many rows below the ones that are shown. */
  readonly scroll: number;
}

export function emptyState(me: string): ChatState {
  return {
    me,
    link: { t: "connecting" },
    conversations: [],
    open: undefined,
    selected: 0,
    presences: new Map(),
    notice: [],
    editor: emptyEditor,
    scroll: 0,
  };
}

export function openConversation(id: string, me: string): OpenConversation {
  return {
    id,
    view: undefined,
    peerId: peerOf(id, me),
    records: [],
    outgoing: [],
    newAfterSeq: undefined,
    lost: [],
    loading: false,
    members: [],
    typing: new Map(),
  };
}

/** The other one of a direct conversation. */
export function peerOf(id: string, me: string): string | undefined {
  if (!id.startsWith("d:")) return undefined;
  return (
    id
      .split(":")
      .slice(1)
      .find((user) => user !== me) ?? me
  );
}

export function titleOf(view: ConversationView | undefined, id: string, me: string): string {
  return peerOf(id, me) ?? (view === undefined || view.title === "" ? id : view.title);
}

/** How far an own message has come. */
export type Tick = "pending" | "sent" | "delivered" | "read" | "failed";

export const tickMarks: Record<Tick, string> = {
  pending: "…",
  sent: "✓",
  delivered: "✓✓",
  read: "✓✓ read",
  failed: "✗",
};

export function tickOf(view: ConversationView | undefined, seq: number): Tick {
  if (view === undefined || seq > view.peersDeliveredSeq) return "sent";
  return seq > view.peersReadSeq ? "delivered" : "read";
}

/** What a conversation's screen shows, in order. */
export type Item =
  | { readonly t: "day"; readonly timeMs: number }
  | {
      readonly t: "gap";
      readonly from: number;
      readonly to: number;
      readonly lost: boolean;
      readonly oldest: boolean;
    }
  | { readonly t: "new" }
  | { readonly t: "record"; readonly record: LogRecord }
  | { readonly t: "outgoing"; readonly outgoing: Outgoing };

export function itemsOf(
  open: OpenConversation,
  me: string,
  dayOf: (timeMs: number) => string,
): Item[] {
  const items: Item[] = [];
  let before = (open.view?.floorSeq ?? 1) - 1;
  let day = "";
  let divided = open.newAfterSeq === undefined;
  for (const record of open.records) {
    if (record.seq > before + 1)
      items.push(...gaps(open, before + 1, record.seq - 1, items.length === 0));
    before = record.seq;
    const timeMs = Number(record.timeMs);
    if (dayOf(timeMs) !== day) items.push({ t: "day", timeMs });
    day = dayOf(timeMs);
    if (!divided && record.seq > (open.newAfterSeq ?? 0) && record.senderId !== me) {
      items.push({ t: "new" });
      divided = true;
    }
    items.push({ t: "record", record });
  }
  const head = open.view?.headSeq ?? 0;
  // Above the last record: on its way, unless it cannot be had.
  if (head > before)
    items.push(
      ...gaps(open, before + 1, head, items.length === 0).filter((gap) => gap.lost || gap.oldest),
    );
  for (const outgoing of open.outgoing) items.push({ t: "outgoing", outgoing });
  return items;
}

function gaps(
  open: OpenConversation,
  from: number,
  to: number,
  oldest: boolean,
): (Item & { t: "gap" })[] {
  const lost = open.lost.some((range) => range.from <= from && range.to >= to);
  return [{ t: "gap", from, to, lost, oldest }];
}

/** Where to load more: below the lowest record above the newest hole. Undefined: all is there. */
export function newestHole(open: OpenConversation): SeqRange | undefined {
  const floor = open.view?.floorSeq ?? 1;
  let above = (open.view?.headSeq ?? 0) + 1;
  for (const { seq } of open.records.toReversed()) {
    if (seq < above - 1 && !isLost(open, seq + 1, above - 1))
      return { from: seq + 1, to: above - 1 };
    above = seq;
  }
  if (above <= floor || isLost(open, floor, above - 1)) return undefined;
  return { from: floor, to: above - 1 };
}

function isLost(open: OpenConversation, from: number, to: number): boolean {
  return open.lost.some((range) => range.from <= from && range.to >= to);
}

const recordsMax = 2_000;

/** Takes records in, each seq once, and forgets what one of them says is erased; the oldest are dropped beyond a bound. */
export function withRecords(
  open: OpenConversation,
  records: readonly LogRecord[],
): OpenConversation {
  const bySeq = new Map(open.records.map((record) => [record.seq, record]));
  for (const record of records) bySeq.set(record.seq, record);
  let sorted = [...bySeq.values()].sort((one, other) => one.seq - other.seq);
  // Also of what was known before: a page may have been on its way.
  for (const { body } of [...sorted])
    if (body.case === "erasure") sorted = withoutErased(sorted, body.value);
  return { ...open, records: sorted.slice(-recordsMax) };
}
