/** The parts of the store over Cassandra that need none: what a write changes in which row and when, and what a check of a revocation may share. */
import assert from "node:assert/strict";
import { ManualClock } from "../../mesh/clock.ts";
import { Kind } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import type { Query } from "../../storage/cassandra/connection.ts";
import { RaisedHeads } from "../../storage/cassandra/raised.ts";
import { Revocations } from "../../storage/cassandra/revocations.ts";
import { indexQueries, statementsOf } from "../../storage/cassandra/rows.ts";
import { member, write } from "./writes.ts";

const statements = statementsOf("ks");

/** "index alice" and the like, with the timestamp. */
function told({ query, params, partition }: Query): string {
  const name = Object.entries(statements).find(([, text]) => text === query)?.[0];
  return `${name} ${partition} @${String(params[0])}`;
}

describe("the rows of a write in Cassandra", () => {
  it("of a direct message are one statement a user, under the seq", () => {
    const cursors = { deliveredSeq: 3, readSeq: 3, readOrdinal: 3 };
    const direct = { id: "d:alice:bob", kind: Kind.DIRECT, from: 3 };
    const message = write({ ...direct, members: [member("alice", cursors)] });
    const { before, last } = indexQueries(statements, message, true);
    assert.deepEqual(before.map(told), ["index alice @3", "index bob @3"]);
    assert.deepEqual(last, []);
    const moved = write({
      ...direct,
      members: [member("bob", { deliveredSeq: 3, readSeq: 2, readOrdinal: 2 })],
    });
    const cursor = indexQueries(statements, { ...moved, cells: [] }, false);
    assert.deepEqual(cursor.before.map(told), [
      ...["index alice @3", "index alice @2"],
      ...["index bob @3", "index bob @2"],
    ]);
  });

  it("raise a group's own head after all that it covers (P1)", () => {
    const members = Array.from({ length: 60 }, (_, at) => member(`u${at}`, { floorSeq: 5 }));
    const { before, last } = indexQueries(
      statements,
      write({ from: 5, members, indexUserIds: ["u0", "old"] }),
      true,
    );
    assert.deepEqual(last.map(told), ["groupHead g:1 @5"]);
    const rows = before.map(told);
    assert.equal(rows.filter((row) => row === "member g:1 @10").length, 60);
    assert(rows.includes("index old @5") && rows.includes("index u59 @5"));
    assert(rows.includes("index u59 @10"), "the membership of a newcomer");
    assert(!rows.includes("index old @10"));
  });

  it("change no user's row for a cursor in a group whose heads are known to be raised", () => {
    const heads = new RaisedHeads();
    const message = write({ from: 2, members: [member("u1")], indexUserIds: ["u1", "u2"] });
    const cursor = {
      ...message,
      cells: [],
      members: [member("u1", { deliveredSeq: 2, readSeq: 2, readOrdinal: 1 })],
    };
    const rows = (): string[] => {
      const { before, last } = indexQueries(statements, cursor, heads.toRaise(cursor));
      return [...before, ...last].map(told);
    };
    assert(rows().includes("index u2 @2"));
    heads.raised(message);
    assert.deepEqual(rows(), ["member g:1 @2"]);
    assert.equal(heads.toRaise(message), true);
    assert.equal(heads.toRaise({ ...write({ from: 3 }), cells: [] }), true);
  });
});

describe("the check of a revocation", () => {
  it("begins a read for who comes while one is under way, and shares it among all who wait", async () => {
    const reads: ((revoked: boolean) => void)[] = [];
    let began: () => void = () => undefined;
    const revocations = new Revocations(new ManualClock(), () => {
      began();
      return new Promise((resolve) => reads.push(resolve));
    });
    const begun = (): Promise<void> => new Promise((resolve) => (began = resolve));
    let next = begun();
    const early = [revocations.check("one"), revocations.check("one")];
    await next;
    next = begun();
    const late = [revocations.check("one"), revocations.check("one")];
    assert.equal(reads.length, 1);
    reads[0]?.(false);
    assert.deepEqual(await Promise.all(early), [false, false]);
    await next;
    assert.equal(reads.length, 2);
    assert.equal(revocations.known("one"), false);
    reads[1]?.(true);
    assert.deepEqual(await Promise.all(late), [true, true]);
    assert.equal(revocations.known("one"), true);
  });
});
