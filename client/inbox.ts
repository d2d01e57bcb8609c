/** What a client knows of its conversations: keeps the timelines in step, and hands their records to the app. */
import { create } from "@bufbuild/protobuf";
import {
  type ConversationDelta,
  type HistoryResponse,
  type Pushed,
  type SendRequest,
} from "../proto/gen/parley/v1/chat_pb.ts";
import {
  ConversationKind,
  CursorSchema,
  RecordSchema,
  type Cursor,
  type Record as LogRecord,
} from "../proto/gen/parley/v1/record_pb.ts";
import type { Calls } from "./calls.ts";
import type { ClientEvents, ConversationView } from "./client-events.ts";
import type { CursorPlan, Cursors } from "./cursors.ts";
import type { Events } from "./events.ts";
import { Filler } from "./filler.ts";
import { conversationKey, encodeTimeline } from "./keeping.ts";
import type { Settings } from "./options.ts";
import { moveCursor, ownMessages, receiptOf, type Receipt } from "./receipts.ts";
import type { SentMessage } from "./sender.ts";
import type { Keeper } from "./store.ts";
import { toBase64Url, type ClientClock } from "./surroundings.ts";
import {
  addRecords,
  applyDelta,
  applyHistory,
  raiseFloor,
  giveUp,
  newTimeline,
  readTo,
  trim,
  type CursorPair,
  type Outcome,
  type Timeline,
  type TimelineLimits,
} from "./timeline.ts";

export interface InboxParts {
  readonly settings: Settings;
  readonly clock: ClientClock;
  readonly events: Events<ClientEvents>;
  readonly calls: Calls;
  readonly cursors: Cursors;
  readonly keeper: Keeper;
  me(): string;
  live(): boolean;
  /** Own sends are under way there. */
  underWay(conversation: string): boolean;
  /** There is something that only a sync can tell. */
  unknown(): void;
}

export class Inbox {
  readonly #parts: InboxParts;
  readonly #limits: TimelineLimits;
  readonly #filler: Filler;
  readonly #timelines = new Map<string, Timeline>();
  /** By when they last changed: whose records are dropped first. */
  readonly #touched = new Set<string>();
  readonly #changed = new Set<string>();
  #kept = 0;

  constructor(parts: InboxParts) {
    this.#parts = parts;
    const { limits } = parts.settings;
    this.#limits = {
      keptMax: limits.keptRecordsMax,
      earlyMax: limits.earlyRecordsMax,
      pageMax: 200,
    };
    this.#filler = new Filler(parts.calls, parts.clock, limits, this.#limits, {
      underWay: (conversation) => parts.underWay(conversation),
      filled: (timeline, answer) => this.#filled(timeline, answer),
      lost: (timeline) => this.#deliver(timeline, giveUp(timeline, parts.me(), this.#limits)),
      live: () => parts.live(),
      failed: (error) => parts.events.emit("error", { during: "history", error }),
    });
  }

  restore(conversations: readonly { timeline: Timeline; plan: CursorPlan }[]): void {
    for (const { timeline, plan } of conversations) {
      this.#timelines.set(timeline.id, timeline);
      this.#parts.cursors.restore(timeline.id, plan);
    }
  }

  /** Nothing is known any more, nor kept. */
  anew(): void {
    const { cursors, keeper } = this.#parts;
    for (const id of this.#timelines.keys()) keeper.put(conversationKey(id), () => undefined);
    for (const known of [this.#timelines, this.#touched, this.#changed]) known.clear();
    this.#kept = 0;
    cursors.anew();
  }

  get size(): number {
    return this.#timelines.size;
  }

  views(): ConversationView[] {
    return [...this.#timelines.values()].map((timeline) => this.#view(timeline));
  }

  view(conversation: string): ConversationView | undefined {
    const timeline = this.#timelines.get(conversation);
    return timeline && this.#view(timeline);
  }

  records(conversation: string): readonly LogRecord[] {
    return [...(this.#timelines.get(conversation)?.kept ?? [])];
  }

  headOf(conversation: string): number {
    return this.#timelines.get(conversation)?.knownHead ?? 0;
  }

  receipt(conversation: string, seq: number): Receipt | undefined {
    const timeline = this.#timelines.get(conversation);
    return timeline && receiptOf(timeline, seq);
  }

  up(): void {
    for (const timeline of this.#timelines.values()) this.#filler.look(timeline);
  }

  /** A sync's part; `initial`: the device had nothing before. */
  delta(delta: ConversationDelta, initial: boolean): void {
    const told = delta.conversation;
    if (told === undefined) return;
    const { cursors, settings } = this.#parts;
    const me = this.#parts.me();
    const timeline = this.#timeline(told.conversationId);
    const before = timeline.summary;
    const keptBefore = timeline.kept.length;
    cursors.told(timeline.id, told.deliveredSeq, told.readSeq);
    const how = { initial, fillMax: settings.historyOnSync };
    const outcome = applyDelta(timeline, delta, me, this.#limits, how);
    if (delta.left) cursors.forget(timeline.id);
    this.#deliver(timeline, outcome, keptBefore);
    this.#recount(timeline);
    this.#receipts(
      timeline,
      { deliveredSeq: before.peersDeliveredSeq, readSeq: before.peersReadSeq },
      {
        deliveredSeq: timeline.summary.peersDeliveredSeq,
        readSeq: timeline.summary.peersReadSeq,
      },
    );
  }

  pushed(pushed: Pushed): void {
    const byConversation = new Map<string, LogRecord[]>();
    for (const record of pushed.records) {
      const others = byConversation.get(record.conversationId);
      if (others) others.push(record);
      else byConversation.set(record.conversationId, [record]);
    }
    const me = this.#parts.me();
    for (const [id, records] of byConversation) {
      const timeline = this.#timeline(id);
      this.#add(timeline, records);
      const others = records.some((record) => record.senderId !== me && record.seq < timeline.next);
      if (others) this.#parts.cursors.ack(id);
    }
    for (const cursor of pushed.cursors) this.cursor(cursor);
  }

  /** The server made a record of an own message; this connection is told by the answer alone. */
  sent(request: SendRequest, message: SentMessage): void {
    const timeline = this.#timeline(message.conversationId);
    const { clientId, conversationId, seq } = message;
    this.#status(timeline, clientId, seq);
    const record = create(RecordSchema, {
      conversationId,
      seq,
      senderId: this.#parts.me(),
      clientId: request.clientId,
      timeMs: BigInt(message.timeMs),
      body: request.content ? { case: "message", value: request.content } : { case: undefined },
    });
    this.#parts.cursors.told(conversationId, seq, seq);
    this.#add(timeline, [record]);
  }

  /** The server made a record that this connection is not told: it is fetched. */
  reached(conversation: string, seq: number): void {
    const timeline = this.#timeline(conversation);
    timeline.knownHead = Math.max(timeline.knownHead, seq);
    this.#filler.look(timeline);
  }

  cursor(cursor: Cursor): void {
    const { cursors } = this.#parts;
    const { conversationId, userId, deliveredSeq, readSeq } = cursor;
    const timeline = this.#timelines.get(conversationId);
    if (timeline === undefined) return;
    if (userId === this.#parts.me()) {
      cursors.told(conversationId, deliveredSeq, readSeq);
      const { summary } = timeline;
      const hasMore = Math.max(deliveredSeq, readSeq) > summary.deliveredSeq;
      if (hasMore) summary.deliveredSeq = Math.max(deliveredSeq, readSeq);
      if (this.#read(timeline, readSeq)) this.#cursorMoved(conversationId, userId, summary);
      else if (hasMore) {
        this.#touch(timeline);
        this.#cursorMoved(conversationId, userId, summary);
      }
    } else {
      const move = moveCursor(timeline, cursor);
      if (move === undefined) return;
      this.#touch(timeline);
      this.#receipts(timeline, move.before, move.now);
      this.#cursorMoved(conversationId, userId, move.now);
    }
  }

  /** What came late is told as what is known: neither part goes back. */
  #cursorMoved(conversationId: string, userId: string, pair: CursorPair): void {
    const { deliveredSeq, readSeq } = pair;
    this.#parts.events.emit("cursor", { conversationId, userId, deliveredSeq, readSeq });
  }

  /** The user has seen all up to `seq`; undefined: all that was handed. */
  markRead(conversation: string, seq: number | undefined): void {
    const timeline = this.#timelines.get(conversation);
    if (timeline === undefined || timeline.next === 0) return;
    const got = timeline.next - 1;
    const to = Math.min(seq ?? got, got);
    this.#parts.cursors.read(conversation, to);
    this.#read(timeline, to);
  }

  keep(conversation: string): void {
    const timeline = this.#timelines.get(conversation);
    if (timeline === undefined) return;
    const { cursors, keeper } = this.#parts;
    keeper.put(conversationKey(conversation), () =>
      encodeTimeline(timeline, cursors.plan(conversation)),
    );
  }

  #add(timeline: Timeline, records: readonly LogRecord[]): void {
    const fresh = timeline.next === 0;
    const keptBefore = timeline.kept.length;
    const outcome = addRecords(timeline, records, this.#parts.me(), this.#limits);
    this.#deliver(timeline, outcome, keptBefore);
    // Its title, its members and where it begins are the server's to tell.
    if (fresh) this.#parts.unknown();
  }

  /** The server's history begins there now. */
  floor(conversation: string, floorSeq: number): void {
    const timeline = this.#timelines.get(conversation);
    if (timeline === undefined || floorSeq <= timeline.summary.floorSeq) return;
    const keptBefore = timeline.kept.length;
    const outcome = raiseFloor(timeline, floorSeq, this.#parts.me(), this.#limits);
    this.#deliver(timeline, outcome, keptBefore);
  }

  #filled(timeline: Timeline, answer: HistoryResponse): void {
    const keptBefore = timeline.kept.length;
    const outcome = applyHistory(timeline, answer, this.#parts.me(), this.#limits);
    this.#deliver(timeline, outcome, keptBefore);
  }

  #deliver(timeline: Timeline, outcome: Outcome, keptBefore = timeline.kept.length): void {
    const { events, cursors } = this.#parts;
    const [me, conversationId] = [this.#parts.me(), timeline.id];
    // An answer from before it was forgotten.
    if (this.#timelines.get(conversationId) !== timeline) return;
    const wrote = new Map<string, number>();
    this.#touch(timeline);
    this.#boundKept(timeline, keptBefore);
    for (const item of outcome) {
      if (item.t === "gap") events.emit("gap", { conversationId, ...item.gap });
      else {
        const { record } = item;
        events.emit("record", { conversationId, record, own: record.senderId === me });
        if (record.body.case === "message" && !record.erased)
          wrote.set(record.senderId, record.seq);
      }
    }
    // Who writes has read what is before it; no cursor is pushed for that.
    wrote.delete(me);
    for (const [userId, seq] of wrote) {
      this.cursor(
        create(CursorSchema, { conversationId, userId, deliveredSeq: seq, readSeq: seq }),
      );
    }
    if (timeline.next > 1 && !timeline.left) cursors.delivered(conversationId, timeline.next - 1);
    this.#filler.look(timeline);
  }

  #read(timeline: Timeline, seq: number): boolean {
    const moved = readTo(timeline, seq, this.#parts.me());
    if (!moved) return false;
    this.#touch(timeline);
    this.#recount(timeline);
    return true;
  }

  /** The server has taken a cursor of the caller. */
  told(conversation: string): void {
    this.keep(conversation);
    const timeline = this.#timelines.get(conversation);
    if (timeline !== undefined) this.#recount(timeline);
  }

  /** Asks for the count where it is a guess; before the server has the cursor its own would be of an older one. */
  #recount(timeline: Timeline): void {
    if (!timeline.countStale) return;
    const { toldReadSeq } = this.#parts.cursors.plan(timeline.id);
    if (toldReadSeq >= timeline.summary.readSeq) this.#parts.unknown();
  }

  /** Tells of the own messages that a cursor has come to. */
  #receipts(timeline: Timeline, before: CursorPair, now: CursorPair): void {
    for (const own of ownMessages(timeline, this.#parts.me())) {
      const got = own.seq > before.deliveredSeq && own.seq <= now.deliveredSeq;
      const read = own.seq > before.readSeq && own.seq <= now.readSeq;
      if (got || read) this.#status(timeline, toBase64Url(own.clientId), own.seq);
    }
  }

  #status(timeline: Timeline, clientId: string, seq: number): void {
    const conversationId = timeline.id;
    const receipt = receiptOf(timeline, seq);
    this.#parts.events.emit("status", { clientId, conversationId, seq, ...receipt });
  }

  /** To be kept, and told to the app once a turn. */
  #touch(timeline: Timeline): void {
    this.#touched.delete(timeline.id);
    this.#touched.add(timeline.id);
    this.keep(timeline.id);
    if (this.#changed.size === 0) {
      this.#parts.clock.afterTurn(() => {
        const changed = [...this.#changed];
        this.#changed.clear();
        for (const id of changed) {
          const view = this.view(id);
          if (view) this.#parts.events.emit("conversation", view);
        }
      });
    }
    this.#changed.add(timeline.id);
  }

  #boundKept(timeline: Timeline, keptBefore: number): void {
    this.#kept += timeline.kept.length - keptBefore;
    for (const id of this.#touched) {
      if (this.#kept <= this.#parts.settings.limits.keptRecordsTotalMax) return;
      const oldest = this.#timelines.get(id);
      if (oldest && oldest !== timeline) this.#kept -= trim(oldest, 0);
    }
  }

  /** The sum of the heads that the client knows of, to hold against the server's. */
  headSum(): number {
    let sum = 0;
    for (const timeline of this.#timelines.values()) if (!timeline.left) sum += timeline.knownHead;
    return sum;
  }

  #timeline(id: string): Timeline {
    let timeline = this.#timelines.get(id);
    if (timeline === undefined) {
      timeline = newTimeline(id);
      this.#timelines.set(id, timeline);
    }
    return timeline;
  }

  #view(timeline: Timeline): ConversationView {
    const { summary } = timeline;
    const direct = summary.kind === ConversationKind.DIRECT;
    const me = this.#parts.me();
    const users = timeline.id.split(":").slice(1);
    return {
      id: timeline.id,
      kind: direct ? "direct" : "group",
      title: summary.title,
      peerId: direct ? (users.find((user) => user !== me) ?? me) : undefined,
      headSeq: Math.max(summary.headSeq, timeline.knownHead),
      floorSeq: summary.floorSeq,
      gotSeq: Math.max(0, timeline.next - 1),
      memberCount: summary.memberCount,
      deliveredSeq: summary.deliveredSeq,
      readSeq: summary.readSeq,
      unreadCount: summary.unreadCount,
      peersDeliveredSeq: summary.peersDeliveredSeq,
      peersReadSeq: summary.peersReadSeq,
      headTimeMs: Number(summary.headTimeMs),
      left: timeline.left,
    };
  }
}
