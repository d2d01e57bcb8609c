import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import {
  ConversationDeltaSchema,
  HistoryResponseSchema,
  type ConversationDelta,
  type HistoryResponse,
} from "../../proto/gen/parley/v1/chat_pb.ts";
import {
  CursorSchema,
  RecordSchema,
  type Record as LogRecord,
} from "../../proto/gen/parley/v1/record_pb.ts";
import { moveCursor, receiptOf } from "../../client/receipts.ts";
import {
  addRecords,
  applyDelta,
  applyHistory,
  giveUp,
  missing,
  newTimeline,
  readTo,
  type Outcome,
  raiseFloor,
  type Timeline,
} from "../../client/timeline.ts";

const limits = { keptMax: 500, earlyMax: 500, pageMax: 200 };
const me = "alice";
const id = "d:alice:bob";

function record(seq: number, senderId = "bob"): LogRecord {
  return create(RecordSchema, {
    conversationId: id,
    seq,
    senderId,
    ordinal: seq,
    body: { case: "message", value: { text: `${seq}` } },
  });
}

function range(from: number, to: number): LogRecord[] {
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, at) => record(from + at));
}

function delta(
  headSeq: number,
  records: LogRecord[],
  more: { floorSeq?: number; readSeq?: number; unreadCount?: number } = {},
): ConversationDelta {
  const conversation = { conversationId: id, headSeq, floorSeq: 1, memberCount: 2, ...more };
  return create(ConversationDeltaSchema, { conversation, records });
}

function answer(records: LogRecord[], headSeq: number, floorSeq = 1): HistoryResponse {
  return create(HistoryResponseSchema, { records, headSeq, floorSeq });
}

/** "1 2 3 (4-6) 7": what the app sees. */
function shown(outcome: Outcome): string {
  return outcome
    .map((item) =>
      item.t === "record"
        ? `${item.record.seq}`
        : `(${item.gap.from}-${item.gap.to}${item.gap.more ? "+" : ""})`,
    )
    .join(" ");
}

function begun(head = 0): Timeline {
  const timeline = newTimeline(id);
  applyDelta(timeline, delta(head, range(1, head)), me, limits, { initial: true, fillMax: 200 });
  return timeline;
}

describe("a timeline", () => {
  it("hands pushes in order, once", () => {
    const timeline = begun(2);
    assert.equal(shown(addRecords(timeline, [record(3), record(3)], me, limits)), "3");
    assert.equal(shown(addRecords(timeline, [record(2), record(5)], me, limits)), "");
    assert.deepEqual(missing(timeline, limits), { afterSeq: 3, beforeSeq: 5, limit: 200 });
    assert.equal(shown(addRecords(timeline, [record(4)], me, limits)), "4 5");
    assert.equal(missing(timeline, limits), undefined);
  });

  it("fills a hole from history, page by page", () => {
    const timeline = begun(1);
    addRecords(timeline, [record(500)], me, limits);
    const asked: string[] = [];
    let seen = "";
    for (let ask = missing(timeline, limits); ask; ask = missing(timeline, limits)) {
      asked.push(`${ask.afterSeq}-${ask.beforeSeq}`);
      const page = range(ask.afterSeq + 1, ask.beforeSeq - 1);
      seen += ` ${shown(applyHistory(timeline, answer(page, 500), me, limits))}`;
    }
    assert.deepEqual(asked, ["1-202", "201-402", "401-500"]);
    assert.equal(seen.trim().split(" ").length, 499);
  });

  it("names a hole below a risen floor", () => {
    const timeline = begun(1);
    addRecords(timeline, [record(10)], me, limits);
    const page = answer(range(6, 9), 10, 6);
    assert.equal(shown(applyHistory(timeline, page, me, limits)), "(2-5) 6 7 8 9 10");
  });

  it("waits for nothing below a floor that was raised meanwhile, which the app asked about", () => {
    const timeline = begun(1);
    addRecords(timeline, [record(10)], me, limits);
    assert.equal(shown(raiseFloor(timeline, 10, me, limits)), "(2-9) 10");
    assert.equal(timeline.summary.floorSeq, 10);
    assert.equal(missing(timeline, limits), undefined);
    assert.equal(shown(raiseFloor(timeline, 4, me, limits)), "");
  });

  it("keeps nothing of what a record says is erased, and counts it as no message", () => {
    const timeline = begun(1);
    const erasure = create(RecordSchema, {
      conversationId: id,
      seq: 5,
      ordinal: 4,
      body: { case: "erasure", value: { ranges: [{ firstSeq: 1, lastSeq: 3 }] } },
    });
    addRecords(timeline, [record(2), record(3), record(4)], me, limits);
    const { unreadCount } = timeline.summary;
    addRecords(timeline, [erasure], me, limits);
    assert.equal(timeline.summary.unreadCount, unreadCount);
    const kept = timeline.kept.map(({ seq, senderId, erased, body }) => [
      seq,
      senderId,
      erased,
      body.case === "message" ? body.value.text : body.case,
    ]);
    assert.deepEqual(kept.slice(-4), [
      [2, "", true, ""],
      [3, "", true, ""],
      [4, "bob", false, "4"],
      [5, "", false, "erasure"],
    ]);
  });

  it("names a hole that three answers do not fill", () => {
    const timeline = begun(1);
    addRecords(timeline, [record(4)], me, limits);
    const nothing = (): string => shown(applyHistory(timeline, answer([], 4), me, limits));
    assert.deepEqual([nothing(), nothing(), nothing()], ["", "", "(2-3) 4"]);
  });

  it("waits longer where the server's head is below the hole: it shows what was pushed a moment later", () => {
    const timeline = begun(1);
    addRecords(timeline, [record(4)], me, limits);
    for (let tries = 1; tries < 60; tries += 1)
      assert.equal(shown(applyHistory(timeline, answer([], 1), me, limits)), "");
    assert.equal(shown(applyHistory(timeline, answer([record(2)], 2), me, limits)), "2");
    for (let tries = 1; tries < 60; tries += 1)
      assert.equal(shown(applyHistory(timeline, answer([], 2), me, limits)), "");
    assert.equal(shown(applyHistory(timeline, answer([], 2), me, limits)), "(3-3) 4");
  });

  it("begins to count answers anew where a push filled what they lacked", () => {
    const timeline = begun(1);
    addRecords(timeline, [record(5)], me, limits);
    for (let tries = 0; tries < 40; tries += 1)
      assert.equal(shown(applyHistory(timeline, answer([], 1), me, limits)), "");
    assert.equal(shown(addRecords(timeline, [record(2)], me, limits)), "2");
    // To what was asked before the push.
    assert.equal(shown(applyHistory(timeline, answer([record(2)], 5), me, limits)), "");
  });

  it("names a hole that is not to be had at once", () => {
    const timeline = begun(1);
    addRecords(timeline, [record(4)], me, limits);
    assert.equal(shown(giveUp(timeline, me, limits)), "(2-3) 4");
    assert.equal(shown(giveUp(timeline, me, limits)), "");
  });

  it("begins with the newest at the first sync, with the floor later", () => {
    const first = newTimeline(id);
    const how = { initial: true, fillMax: 200 };
    assert.equal(shown(applyDelta(first, delta(9, range(8, 9)), me, limits, how)), "8 9");
    assert.equal(missing(first, limits), undefined);
    const later = newTimeline(id);
    applyDelta(later, delta(9, range(8, 9), { floorSeq: 3 }), me, limits, {
      initial: false,
      fillMax: 200,
    });
    assert.deepEqual(missing(later, limits), { afterSeq: 2, beforeSeq: 8, limit: 200 });
  });

  it("names what a sync brings but for the newest part", () => {
    const timeline = begun(10);
    const how = { initial: false, fillMax: 5 };
    const outcome = applyDelta(timeline, delta(100, range(91, 100)), me, limits, how);
    assert.equal(shown(outcome), "(11-85+)");
    assert.deepEqual(missing(timeline, limits), { afterSeq: 85, beforeSeq: 91, limit: 200 });
    const none = begun(10);
    const all = applyDelta(none, delta(100, range(99, 100)), me, limits, {
      initial: false,
      fillMax: 0,
    });
    assert.equal(shown(all), "(11-98+) 99 100");
  });

  it("keeps the newest records only, and bounds what came early", () => {
    const small = { keptMax: 3, earlyMax: 2, pageMax: 200 };
    const timeline = begun(0);
    for (const one of range(1, 10)) addRecords(timeline, [one], me, small);
    assert.deepEqual(
      timeline.kept.map((kept) => kept.seq),
      [8, 9, 10],
    );
    const held = begun(0);
    addRecords(held, range(5, 9), me, small);
    assert.deepEqual([...held.early.keys()], [5, 6]);
    assert.equal(held.knownHead, 9);
    applyHistory(held, answer(range(1, 4), 9), me, { ...small, earlyMax: 10 });
    assert.deepEqual(missing(held, limits), { afterSeq: 6, beforeSeq: 10, limit: 200 });
  });

  it("counts unread in step with the server's count", () => {
    const timeline = newTimeline(id);
    const told = delta(4, range(3, 4), { readSeq: 2, unreadCount: 2 });
    applyDelta(timeline, told, me, limits, { initial: true, fillMax: 0 });
    assert.equal(timeline.summary.unreadCount, 2);
    addRecords(timeline, [record(5), record(6)], me, limits);
    assert.equal(timeline.summary.unreadCount, 4);
    readTo(timeline, 4, me);
    assert.equal(timeline.summary.unreadCount, 2);
    assert.equal(timeline.countStale, false);
    addRecords(timeline, [record(7, me)], me, limits);
    assert.equal(timeline.summary.unreadCount, 0, "sending reads");
    // A sync that is older than what was pushed since, and read, is counted on from.
    addRecords(timeline, [record(8)], me, limits);
    const stale = delta(6, [], { readSeq: 2, unreadCount: 4 });
    applyDelta(timeline, stale, me, limits, { initial: false, fillMax: 0 });
    assert.equal(timeline.summary.unreadCount, 1);
    assert.equal(timeline.summary.readSeq, 7, "cursors never go back (P5)");
  });

  it("says when its count is a guess", () => {
    const timeline = newTimeline(id);
    const told = delta(90, range(81, 90), { readSeq: 10, unreadCount: 70 });
    applyDelta(timeline, told, me, limits, { initial: true, fillMax: 0 });
    readTo(timeline, 85, me);
    assert.equal(timeline.countStale, true);
    readTo(timeline, 90, me);
    assert.equal(timeline.summary.unreadCount, 0);
  });

  it("follows members and titles in the log", () => {
    const timeline = begun(1);
    const change = create(RecordSchema, {
      conversationId: id,
      seq: 2,
      body: {
        case: "membership",
        value: { added: ["carol", "dave"], removed: ["bob"], title: "Tea" },
      },
    });
    addRecords(timeline, [change], me, limits);
    assert.equal(timeline.summary.memberCount, 3);
    assert.equal(timeline.summary.title, "Tea");
    const out = create(RecordSchema, {
      conversationId: id,
      seq: 3,
      body: { case: "membership", value: { removed: [me] } },
    });
    addRecords(timeline, [out], me, limits);
    assert.equal(timeline.left, true);
  });

  it("has read all that was before its user was added again (P6)", () => {
    const change = (seq: number, value: { added?: string[]; removed?: string[] }) =>
      create(RecordSchema, { conversationId: id, seq, body: { case: "membership", value } });
    const timeline = begun(1);
    addRecords(timeline, [record(2), change(3, { removed: [me] })], me, limits);
    assert.equal(timeline.summary.unreadCount, 1);
    addRecords(timeline, [change(8, { added: [me] })], me, limits);
    applyHistory(timeline, answer([], 9, 8), me, limits);
    addRecords(timeline, [record(9)], me, limits);
    const { readSeq, deliveredSeq, unreadCount } = timeline.summary;
    assert.deepEqual([timeline.left, readSeq, deliveredSeq, unreadCount], [false, 7, 7, 1]);
  });

  it("does not count its user twice who was added again by a record before it heard of the removal (P6)", () => {
    const timeline = begun(1);
    const { memberCount } = timeline.summary;
    const again = create(RecordSchema, {
      conversationId: id,
      seq: 8,
      body: { case: "membership", value: { added: [me] } },
    });
    addRecords(timeline, [again], me, limits);
    applyHistory(timeline, answer([], 9, 8), me, limits);
    assert.equal(timeline.next, 9);
    assert.equal(timeline.summary.memberCount, memberCount);
    assert.equal(timeline.countStale, true, "who else came and went meanwhile, a sync tells");
  });

  it("lacks what was said up to the removal that a sync without records told of (P6)", () => {
    const timeline = begun(2);
    const told = { ...delta(4, []), left: true };
    const how = { initial: false, fillMax: 200 };
    assert.equal(shown(applyDelta(timeline, told, me, limits, how)), "");
    assert.equal(timeline.left, true);
    assert.deepEqual(missing(timeline, limits), { afterSeq: 2, beforeSeq: 5, limit: 200 });
    const out = create(RecordSchema, {
      conversationId: id,
      seq: 4,
      senderId: "bob",
      body: { case: "membership", value: { removed: [me] } },
    });
    assert.equal(shown(applyHistory(timeline, answer([record(3), out], 4), me, limits)), "3 4");
    assert.equal(timeline.left, true);
    assert.equal(missing(timeline, limits), undefined);
  });

  it("tells sent, delivered n of m, and read from cursors", () => {
    const timeline = begun(0);
    timeline.summary.memberCount = 3;
    addRecords(timeline, [record(1, me)], me, limits);
    const move = (userId: string, deliveredSeq: number, readSeq: number): unknown =>
      moveCursor(timeline, {
        $typeName: "parley.v1.Cursor",
        conversationId: id,
        userId,
        deliveredSeq,
        readSeq,
      });
    assert.deepEqual(receiptOf(timeline, 1), { status: "sent", delivered: 0, read: 0, of: 2 });
    move("bob", 1, 0);
    assert.deepEqual(receiptOf(timeline, 1), { status: "sent", delivered: 1, read: 0, of: 2 });
    move("carol", 1, 1);
    assert.deepEqual(receiptOf(timeline, 1), { status: "delivered", delivered: 2, read: 1, of: 2 });
    move("bob", 1, 1);
    assert.equal(receiptOf(timeline, 1).status, "read");
    assert.equal(move("bob", 0, 0), undefined, "a cursor only moves forward (P5)");
    assert.equal(receiptOf(timeline, 1).status, "read");
  });

  it("counts nobody's late cursor who has been removed, whether the summary knew of it or not (P6)", () => {
    const timeline = begun(1);
    const kick = create(RecordSchema, {
      conversationId: id,
      seq: 2,
      senderId: "bob",
      body: { case: "membership", value: { removed: ["carol"] } },
    });
    applyDelta(timeline, delta(2, []), me, limits, { initial: false, fillMax: 200 });
    timeline.summary.memberCount = 2;
    addRecords(timeline, [kick, record(3, me)], me, limits);
    const cursor = (userId: string, seq: number) =>
      create(CursorSchema, { conversationId: id, userId, deliveredSeq: seq, readSeq: 0 });
    assert.equal(moveCursor(timeline, cursor("carol", 1)), undefined);
    moveCursor(timeline, cursor("bob", 3));
    assert.equal(timeline.summary.peersDeliveredSeq, 3);
  });

  it("counts only who moves on, behind a change of members that is erased: it may have been somebody's going (P6)", () => {
    const timeline = begun(1);
    const cursor = (userId: string, seq: number) =>
      create(CursorSchema, { conversationId: id, userId, deliveredSeq: seq, readSeq: 0 });
    for (const userId of ["bob", "carol"]) moveCursor(timeline, cursor(userId, 1));
    const going = create(RecordSchema, {
      ...{ conversationId: id, seq: 2, erased: true, body: { case: "membership", value: {} } },
    });
    applyDelta(timeline, delta(2, []), me, limits, { initial: false, fillMax: 200 });
    timeline.summary.memberCount = 2;
    addRecords(timeline, [going, record(3, me)], me, limits);
    assert.equal(moveCursor(timeline, cursor("bob", 1)), undefined, "nothing goes back (P5)");
    moveCursor(timeline, cursor("bob", 3));
    assert.equal(timeline.summary.peersDeliveredSeq, 3);
    const { memberCount } = timeline.summary;
    assert.equal(timeline.countStale, false);
    addRecords(timeline, [{ ...going, seq: 4 }], me, limits);
    assert.deepEqual([timeline.summary.memberCount, timeline.countStale], [memberCount, true]);
  });

  describe("of a member who is removed and added again (P5)", () => {
    const change = (seq: number, value: { added?: string[]; removed?: string[] }) =>
      create(RecordSchema, {
        conversationId: id,
        seq,
        senderId: "bob",
        body: { case: "membership", value },
      });
    const cursor = (seq: number) =>
      create(CursorSchema, {
        conversationId: id,
        userId: "carol",
        deliveredSeq: seq,
        readSeq: seq,
      });
    const out = change(3, { removed: ["carol"] });
    const again = change(5, { added: ["carol"] });

    it("takes no cursor back that came before the records", () => {
      const timeline = begun(1);
      assert.equal(moveCursor(timeline, cursor(4))?.now.readSeq, 4);
      addRecords(timeline, [record(2, "carol"), out, record(4), again], me, limits);
      assert.equal(moveCursor(timeline, cursor(2)), undefined);
      assert.equal(moveCursor(timeline, cursor(5))?.before.readSeq, 4);
    });

    it("takes none back that was known before the removal", () => {
      const timeline = begun(2);
      moveCursor(timeline, cursor(2));
      addRecords(timeline, [out, record(4), again], me, limits);
      assert.equal(moveCursor(timeline, cursor(1)), undefined);
    });

    it("tells one that comes between the two records, and counts it after the second", () => {
      const timeline = begun(2);
      timeline.summary.memberCount = 3;
      addRecords(timeline, [out], me, limits);
      assert.equal(moveCursor(timeline, cursor(2)), undefined, "late, of the time before");
      assert.equal(moveCursor(timeline, cursor(4))?.now.readSeq, 4);
      assert.equal(timeline.peers.size, 0);
      addRecords(timeline, [record(4), again], me, limits);
      assert.deepEqual(timeline.peers.get("carol"), { deliveredSeq: 4, readSeq: 4 });
    });
  });

  it("reads by writing a message, not by changing the members (P6)", () => {
    const timeline = begun(2);
    const change = create(RecordSchema, {
      conversationId: id,
      seq: 3,
      senderId: me,
      body: { case: "membership", value: { added: ["carol"] } },
    });
    addRecords(timeline, [change], me, limits);
    assert.equal(timeline.summary.readSeq, 0);
    addRecords(timeline, [record(4, me)], me, limits);
    assert.equal(timeline.summary.readSeq, 4);
  });
});

describe("a timeline, whatever comes (P3, P6)", () => {
  const step = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        t: fc.constant("push"),
        seq: fc.integer({ min: 1, max: 60 }),
        n: fc.integer({ min: 1, max: 5 }),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        t: fc.constant("sync"),
        seq: fc.integer({ min: 1, max: 60 }),
        n: fc.integer({ min: 0, max: 5 }),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        t: fc.constant("fill"),
        seq: fc.integer({ min: 1, max: 60 }),
        n: fc.integer({ min: 0, max: 8 }),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        t: fc.constant("floor"),
        seq: fc.integer({ min: 1, max: 20 }),
        n: fc.constant(0),
      }),
    },
  );

  it("hands each seq once and in order, or names it; nothing is passed over", () => {
    const property = fc.property(
      fc.array(step, { maxLength: 60 }),
      fc.integer({ min: 1, max: 60 }),
      fc.integer({ min: 0, max: 20 }),
      fc.integer({ min: 1, max: 8 }),
      (steps, head, fillMax, earlyMax) => {
        const small = { keptMax: 5, earlyMax, pageMax: 8 };
        const timeline = newTimeline(id);
        let floor = 1;
        let seen: Outcome = [];
        const page = (from: number, to: number): HistoryResponse =>
          answer(range(Math.max(from, floor), Math.min(to, head)), head, floor);
        const how = { initial: false, fillMax };
        for (const { t, seq, n } of steps) {
          const top = Math.min(seq, head);
          if (t === "push") {
            const pushed = range(top, Math.min(top + n - 1, head)).filter(
              (one) => one.seq >= floor,
            );
            seen = seen.concat(addRecords(timeline, pushed, me, small));
          } else if (t === "sync") {
            const newest = range(Math.max(floor, top - n + 1), top);
            const told = delta(top, n === 0 ? [] : newest, { floorSeq: floor });
            seen = seen.concat(applyDelta(timeline, told, me, small, how));
          } else if (t === "floor") floor = Math.max(floor, Math.min(seq, head));
          else {
            const ask = missing(timeline, small);
            if (ask === undefined) continue;
            // Now and then the answer is shorter than what was asked for.
            const to = Math.min(ask.beforeSeq - 1, ask.afterSeq + n);
            seen = seen.concat(applyHistory(timeline, page(ask.afterSeq + 1, to), me, small));
          }
        }
        // In the end all is told and answered: nothing may be left open.
        const newest = range(Math.max(floor, head - 1), head);
        const told = delta(head, newest, { floorSeq: floor });
        seen = seen.concat(applyDelta(timeline, told, me, small, how));
        for (let rounds = 0; ; rounds++) {
          const ask = missing(timeline, small);
          if (ask === undefined) break;
          assert.ok(rounds < 200, "it ends");
          const filled = page(ask.afterSeq + 1, ask.beforeSeq - 1);
          seen = seen.concat(applyHistory(timeline, filled, me, small));
        }
        let expected = 0;
        for (const item of seen) {
          const from = item.t === "record" ? item.record.seq : item.gap.from;
          if (expected === 0) {
            assert.ok(from <= floor, `begins with ${from}`);
            expected = from;
          }
          assert.equal(from, expected, shown(seen));
          expected = (item.t === "record" ? item.record.seq : item.gap.to) + 1;
        }
        assert.equal(timeline.next, head + 1);
        assert.ok(expected === head + 1 || seen.length === 0, shown(seen));
        assert.ok(timeline.early.size <= earlyMax);
        assert.ok(timeline.kept.length <= small.keptMax);
      },
    );
    fc.assert(property, { numRuns: 500 });
  });
});
