import assert from "node:assert/strict";
import { Code } from "@connectrpc/connect";
import fc from "fast-check";
import { Conversation } from "../../delivery/conversation.ts";
import { kindOf } from "../../delivery/ids.ts";
import { directUsers, groupId } from "../../mesh/ids.ts";
import { decodeRecord } from "../../delivery/record.ts";
import { Kind } from "../../proto/gen/parley/storage/v1/storage_pb.ts";

const idOf = (n: number): Uint8Array => new Uint8Array(16).fill(n);
const text = (body: string): Uint8Array =>
  Buffer.concat([Buffer.from([0x0a, body.length]), Buffer.from(body)]);

function direct(epoch = 7n): Conversation {
  const conversation = new Conversation("d:alice:bob", Kind.DIRECT, epoch);
  conversation.begin(["alice", "bob"]);
  return conversation;
}

function group(...userIds: string[]): Conversation {
  const conversation = new Conversation("g:0123456789abcdefghijkl", Kind.GROUP, 7n);
  conversation.change(
    "alice",
    idOf(0),
    { added: ["alice", ...userIds], removed: [], title: "G" },
    1_000,
  );
  return conversation;
}

describe("a conversation", () => {
  it("gives seqs without holes, in the order of the sends (P3, P4)", () => {
    const conversation = direct();
    const seqs = [1, 2, 3].map(
      (n) => conversation.append("alice", idOf(n), text(`${n}`), 1_000 + n).place.seq,
    );
    assert.deepEqual(seqs, [1, 2, 3]);
    assert.equal(conversation.headOrdinal, 3);
  });

  it("answers a second try with the first one's place (P2)", () => {
    const conversation = direct();
    const first = conversation.append("alice", idOf(1), text("hello"), 1_000);
    const second = conversation.append("alice", idOf(1), text("hello"), 9_000);
    assert.equal(second.kind, "duplicate");
    assert.deepEqual(second.place, first.place);
    assert.equal(conversation.headSeq, 1);
  });

  it("takes the same client_id of another user for another message", () => {
    const conversation = direct();
    conversation.append("alice", idOf(1), text("a"), 1_000);
    assert.equal(conversation.append("bob", idOf(1), text("b"), 1_000).kind, "appended");
  });

  it("links each record to the term before it", () => {
    const before = direct();
    const first = before.append("alice", idOf(1), text("a"), 1_000);
    const later = direct(9n);
    later.restore(before.state());
    const second = later.append("alice", idOf(2), text("b"), 1_000);
    const third = later.append("alice", idOf(3), text("c"), 1_000);
    assert.ok(first.kind === "appended" && second.kind === "appended" && third.kind === "appended");
    assert.deepEqual([first.cell.previousTerm, first.cell.term], [0n, 7n]);
    assert.deepEqual([second.cell.previousTerm, second.cell.term], [7n, 9n]);
    assert.deepEqual([third.cell.previousTerm, third.cell.term], [9n, 9n]);
  });

  it("never lets a record's time fall", () => {
    const conversation = direct();
    conversation.append("alice", idOf(1), text("a"), 5_000);
    const { place } = conversation.append("alice", idOf(2), text("b"), 1_000);
    assert.equal(place.timeMs, 5_000);
  });

  it("forgets old first tries, but none that is not committed", () => {
    const conversation = direct();
    const numbered = (n: number): Uint8Array => Buffer.from(String(n).padStart(16, "0"));
    for (let n = 1; n <= 2_000; n += 1) conversation.append("alice", numbered(n), text("x"), 1_000);
    conversation.committed(1_000);
    assert.equal(conversation.append("alice", numbered(1_001), text("x"), 1_000).kind, "duplicate");
    assert.equal(conversation.append("alice", numbered(1), text("x"), 1_000).kind, "appended");
  });

  it("moves cursors forward only (P5)", () => {
    const moves = fc.array(
      fc.tuple(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 0, max: 20 })),
    );
    fc.assert(
      fc.property(moves, (all) => {
        const conversation = direct();
        for (let n = 1; n <= 20; n += 1) conversation.append("alice", idOf(n), text("x"), 1_000);
        const bob = conversation.present("bob");
        let before = { ...bob };
        for (const [delivered, read] of all) {
          conversation.moveCursor(bob, delivered, read, conversation.ordinalAt(read) ?? -1);
          assert.ok(bob.deliveredSeq >= before.deliveredSeq && bob.readSeq >= before.readSeq);
          assert.ok(bob.readSeq <= bob.deliveredSeq && bob.deliveredSeq <= conversation.headSeq);
          before = { ...bob };
        }
      }),
    );
  });

  it("refuses a cursor beyond the head", () => {
    const conversation = direct();
    conversation.append("alice", idOf(1), text("x"), 1_000);
    assert.throws(() => conversation.checkCursor(2, 0), { code: Code.InvalidArgument });
    assert.throws(() => conversation.checkCursor(0, 2), { code: Code.InvalidArgument });
    conversation.checkCursor(1, 1);
  });

  it("counts messages, not membership changes", () => {
    const conversation = group("bob");
    conversation.append("alice", idOf(1), text("x"), 1_000);
    conversation.change(
      "alice",
      idOf(2),
      { added: ["carol"], removed: [], title: undefined },
      1_000,
    );
    conversation.append("alice", idOf(3), text("x"), 1_000);
    assert.deepEqual(
      [0, 1, 2, 3, 4].map((seq) => conversation.ordinalAt(seq)),
      [0, 0, 1, 1, 2],
    );
    assert.equal(
      conversation.members.get("carol")?.readOrdinal,
      1,
      "carol came when there was one message",
    );
  });

  it("lets a new member read from its joining on, and a former one to its removal (P8)", () => {
    const conversation = group("bob");
    conversation.append("alice", idOf(1), text("x"), 1_000);
    conversation.change(
      "alice",
      idOf(2),
      { added: ["carol"], removed: ["bob"], title: undefined },
      1_000,
    );
    assert.equal(conversation.members.get("carol")?.floorSeq, 3);
    assert.equal(conversation.members.get("bob")?.leftSeq, 3);
    assert.throws(() => conversation.present("bob"), { code: Code.NotFound });
    assert.deepEqual(conversation.audience, ["alice", "carol"]);
  });

  it("knows the least cursor of the others for each member", () => {
    const conversation = group("bob", "carol");
    for (let n = 1; n <= 3; n += 1) conversation.append("alice", idOf(n), text("x"), 1_000);
    conversation.moveCursor(conversation.present("bob"), 3, 2, 1);
    conversation.moveCursor(conversation.present("carol"), 4, 4, 3);
    const { leastRead } = conversation.state();
    assert.deepEqual([leastRead?.userId, leastRead?.seq, leastRead?.secondSeq], ["bob", 2, 4]);
  });

  it("writes what it assigned into the record", () => {
    const conversation = direct();
    const verdict = conversation.append("bob", idOf(4), text("hi"), 1_234);
    assert.ok(verdict.kind === "appended");
    const record = decodeRecord(verdict.cell.record);
    assert.deepEqual(
      [record.seq, record.senderId, record.timeMs, record.ordinal],
      [1, "bob", 1_234n, 1],
    );
    assert.deepEqual(Buffer.from(record.clientId), Buffer.from(idOf(4)));
    assert.ok(record.body.case === "message" && record.body.value.text === "hi");
  });
});

describe("a conversation's id", () => {
  it("names both users of a direct conversation in order, or none", () => {
    assert.deepEqual(directUsers("d:alice:bob"), ["alice", "bob"]);
    for (const wrong of [
      "d:bob:alice",
      "d:alice:alice",
      "d:alice",
      "d:a:b:c",
      "d::b",
      "g:alice:bob",
      "d:a b:c",
      "",
    ]) {
      assert.equal(directUsers(wrong), undefined, wrong);
      assert.equal(kindOf(wrong), Kind.UNSPECIFIED, wrong);
    }
  });

  it("is the same for every try of a group's creation, and another for another creator", () => {
    assert.equal(groupId("alice", idOf(1)), groupId("alice", idOf(1)));
    assert.notEqual(groupId("alice", idOf(1)), groupId("bob", idOf(1)));
    assert.equal(kindOf(groupId("alice", idOf(1))), Kind.GROUP);
  });
});
