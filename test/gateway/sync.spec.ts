/** Sync tokens: whatever changes shows, nothing else does, and a device that follows them ends up with everything. */
import assert from "node:assert/strict";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import {
  SyncPlan,
  conversationOf,
  decodeToken,
  encodeToken,
  knownRows,
} from "../../gateway/sync.ts";
import type { KnownRow } from "../../gateway/sync.ts";
import { LeastCursorSchema } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { create } from "@bufbuild/protobuf";
import { row } from "./world.ts";

const empty = new Uint8Array(0);

function known(...rows: ReturnType<typeof row>[]): KnownRow[] {
  return knownRows(rows);
}

const least = (userId: string, seq: number, secondSeq: number) =>
  create(LeastCursorSchema, { userId, seq, secondSeq });

const many = (count: number, headSeq = 1): KnownRow[] =>
  known(...Array.from({ length: count }, (_, at) => row(`g:${at}`, "alice", headSeq)));

const idsOf = (plan: SyncPlan): string[] =>
  plan.changed.flatMap(({ rows }) => rows.map(({ conversationId }) => conversationId)).sort();

describe("sync tokens", () => {
  it("survive their encoding; anything else is no token", () => {
    const sums = fc.array(fc.maxSafeNat(), { minLength: 16, maxLength: 16 });
    fc.assert(
      fc.property(sums, (some) => {
        const token = encodeToken({ log2: 4, sums: some });
        assert.deepEqual(decodeToken(token), { log2: 4, sums: some });
        assert.equal(decodeToken(token.subarray(0, token.length - 1)), undefined);
        assert.equal(decodeToken(Uint8Array.from([...token, 0])), undefined);
      }),
    );
    fc.assert(fc.property(fc.uint8Array(), (bytes) => void decodeToken(bytes)));
    for (const bytes of [[2, 4], [1, 3], [1, 11], [1], [1, 4, ...Array<number>(160).fill(0xff)]]) {
      assert.equal(decodeToken(Uint8Array.from(bytes)), undefined);
    }
  });

  it("of other bytes are refused with what to do", () => {
    const wrong = (error: unknown): boolean =>
      error instanceof ConnectError &&
      error.code === Code.InvalidArgument &&
      error.rawMessage.includes("sync with an empty token");
    assert.throws(() => new SyncPlan([], Uint8Array.of(9, 9)), wrong);
  });

  it("an empty one lacks everything; the one it gets lacks nothing", () => {
    for (const count of [0, 1, 7, 8, 9, 300, 2_000]) {
      const rows = many(count);
      const plan = new SyncPlan(rows, empty);
      assert.equal(idsOf(plan).length, count);
      const next = new SyncPlan(rows, plan.finalToken());
      assert.deepEqual(next.changed, []);
      assert.deepEqual(next.finalToken(), plan.finalToken());
    }
  });

  it("have two buckets for a conversation, 16 to 1024", () => {
    const log2 = (count: number): number =>
      decodeToken(new SyncPlan(many(count), empty).finalToken())?.log2 ?? 0;
    assert.deepEqual([0, 8, 9, 16, 17, 512, 5_000].map(log2), [4, 4, 5, 5, 6, 10, 10]);
  });

  it("show a change in each part of a row", () => {
    const others = { leastDelivered: least("bob", 2, 4), leastRead: least("bob", 1, 3) };
    const before = row("g:x", "alice", 5, {
      leastDelivered: least("bob", 2, 4),
      leastRead: least("bob", 1, 3),
    });
    const token = new SyncPlan(known(before), empty).finalToken();
    const changes: Record<string, ReturnType<typeof row>> = {
      head: row("g:x", "alice", 6, others, {}),
      delivered: row("g:x", "alice", 5, others, { deliveredSeq: 1 }),
      read: row("g:x", "alice", 5, others, { readSeq: 1 }),
      "others delivered": row("g:x", "alice", 5, {
        leastDelivered: least("bob", 3, 4),
        leastRead: least("bob", 1, 3),
      }),
      "others read": row("g:x", "alice", 5, {
        leastDelivered: least("bob", 2, 4),
        leastRead: least("bob", 2, 3),
      }),
      left: row("g:x", "alice", 5, others, { leftSeq: 99 }),
    };
    for (const [name, changed] of Object.entries(changes)) {
      assert.deepEqual(idsOf(new SyncPlan(known(changed), token)), ["g:x"], name);
    }
    assert.deepEqual(idsOf(new SyncPlan(known(before), token)), []);
  });

  it("show a change whose parts add up to the same", () => {
    const cursors = (seq: number) => ({
      memberCount: 3,
      leastDelivered: least("bob", seq, seq),
      leastRead: least("bob", seq, seq),
    });
    const before = row("g:x", "alice", 1, cursors(1));
    const token = new SyncPlan(known(before), empty).finalToken();
    const changes = {
      left: row("g:x", "alice", 2, cursors(2), { leftSeq: 2 }),
      "outgrown, and two more": row("g:x", "alice", 3, { ...cursors(1), memberCount: 257 }),
    };
    for (const [name, changed] of Object.entries(changes)) {
      assert.deepEqual(idsOf(new SyncPlan(known(changed), token)), ["g:x"], name);
    }
  });

  it("a device that takes page after page has everything, whatever changes between them", () => {
    const change = fc.tuple(fc.nat(59), fc.constantFrom("head", "read", "new"));
    const steps = fc.array(fc.array(change, { maxLength: 5 }), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(steps, fc.nat(60), (all, begin) => {
        const heads = new Map<string, number>();
        for (let at = 0; at < begin; at += 1) heads.set(`g:${at}`, 1);
        const device = new Map<string, number>();
        let token: Uint8Array = empty;
        const page = (whole: boolean): void => {
          const rows = known(...[...heads].map(([id, head]) => row(id, "alice", head)));
          const plan = new SyncPlan(rows, token);
          const some = whole ? plan.changed : plan.changed.slice(0, 3);
          for (const { bucket, rows: inIt } of some) {
            for (const { conversationId, state } of inIt) device.set(conversationId, state.headSeq);
            plan.has(bucket);
          }
          const complete = some.length === plan.changed.length;
          token = complete ? plan.finalToken() : plan.partialToken();
        };
        for (const changes of all) {
          page(false);
          for (const [at, kind] of changes) {
            const id = kind === "new" ? `g:new${at}` : `g:${at % Math.max(1, begin)}`;
            heads.set(id, (heads.get(id) ?? 0) + 1);
          }
        }
        page(true);
        assert.deepEqual(device, heads);
      }),
    );
  });

  it("of too few buckets for what is there now are answered with one of more, at the end", () => {
    const token = new SyncPlan(many(4), empty).finalToken();
    const plan = new SyncPlan(many(100), token);
    const [first] = plan.changed;
    if (first) plan.has(first.bucket);
    assert.equal(decodeToken(plan.partialToken())?.log2, 4);
    assert.equal(decodeToken(plan.finalToken())?.log2, 8);
  });
});

describe("a conversation as its member sees it", () => {
  it("counts unread messages, and the others' cursors without one's own", () => {
    const [mine] = known(
      row(
        "d:alice:bob",
        "alice",
        9,
        { headOrdinal: 7, leastDelivered: least("alice", 3, 8), leastRead: least("bob", 2, 5) },
        { deliveredSeq: 6, readSeq: 5, readOrdinal: 4, floorSeq: 2 },
      ),
    );
    assert.ok(mine);
    const seen = conversationOf(mine);
    assert.deepEqual(
      [seen.headSeq, seen.floorSeq, seen.deliveredSeq, seen.readSeq, seen.unreadCount],
      [9, 2, 6, 5, 3],
    );
    assert.deepEqual([seen.peersDeliveredSeq, seen.peersReadSeq], [8, 2]);
  });

  it("that has left ends where it left and tells nothing else", () => {
    const [mine] = known(
      row("g:x", "alice", 9, { memberCount: 5, headOrdinal: 9 }, { leftSeq: 4, readSeq: 1 }),
    );
    assert.ok(mine);
    const seen = conversationOf(mine);
    assert.deepEqual([seen.headSeq, seen.memberCount, seen.unreadCount], [4, 0, 0]);
    assert.deepEqual([seen.title, seen.headTimeMs], ["", 0n]);
  });

  it("of more than 256 members has no cursors of others", () => {
    const [mine] = known(
      row("g:x", "alice", 9, { memberCount: 257, leastRead: least("bob", 2, 5) }),
    );
    assert.ok(mine);
    assert.equal(conversationOf(mine).peersReadSeq, 0);
  });
});
