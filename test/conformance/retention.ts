/** What every store must keep of retentions: part of the suite of stores. */
import assert from "node:assert/strict";
import { Code } from "@connectrpc/connect";
import type { ManualClock } from "../../mesh/clock.ts";
import { type Desk, clientId, member, write } from "../storage/writes.ts";

const members = [member("alice"), member("bob")];
const conversationId = "g:1";

export function retentionCases(desk: () => Desk, clock: () => ManualClock): void {
  const sweep = async (): Promise<number> => {
    for (;;) {
      const { retention, more } = await desk().client.sweepRetention({ conversationId });
      if (!more) return retention?.floorSeq ?? 0;
    }
  };

  /** The record at seq n is of the time 1,000 + n. */
  async function at(ms: number): Promise<void> {
    clock().advance(ms - clock().now());
    return Promise.resolve();
  }

  it("removes what is older, tells of the floor, and keeps the rest in its order (P3)", async () => {
    await desk().kept(write({ from: 1, count: 200, members }));
    await desk().kept(write({ from: 201, count: 100 }));
    await at(11_000);
    await desk().client.setRetention({ conversationId, retentionMs: 9_900n });
    assert.equal(await sweep(), 100);
    assert.equal(await sweep(), 100);
    for (const userId of ["alice", ""]) {
      const older = await desk().page({ userId, beforeSeq: 150, limit: 200 });
      assert.deepEqual([older.seqs[0], older.seqs.at(-1), older.floorSeq], [100, 149, 100]);
      const below = await desk().page({ userId, afterSeq: 5, limit: 10 });
      assert.deepEqual([below.seqs[0], below.seqs.length, below.floorSeq], [100, 10, 100]);
      const none = await desk().page({ userId, beforeSeq: 50, limit: 10 });
      assert.deepEqual([none.found, none.seqs, none.floorSeq], [true, [], 100]);
    }
    await desk().kept(write({ from: 301 }));
    assert.equal((await desk().tail()).headSeq, 301);
  });

  it("keeps the head, however old, and removes in steps of thousands", async () => {
    for (let from = 1; from <= 5_000; from += 500)
      await desk().kept(write({ from, count: 500, members: from === 1 ? members : [] }));
    await at(1_000_000);
    await desk().client.setRetention({ conversationId, retentionMs: 1n });
    const first = await desk().client.sweepRetention({ conversationId });
    assert.deepEqual([first.retention?.floorSeq, first.more], [2_001, true]);
    assert.equal(await sweep(), 5_000);
    const { seqs, floorSeq } = await desk().page({ userId: "bob", limit: 200 });
    assert.deepEqual([seqs, floorSeq], [[5_000], 5_000]);
    const { found, seqs: none } = await desk().page({ userId: "bob", beforeSeq: 4_097, limit: 9 });
    assert.deepEqual([found, none], [true, []]);
    await desk().kept(write({ from: 5_001 }));
  });

  it("finds a send that comes again above the floor, though all below is gone (P2)", async () => {
    await desk().kept(write({ from: 1, count: 250, members }));
    await desk().kept(write({ from: 251, count: 50 }));
    await at(11_000);
    await desk().client.setRetention({ conversationId, retentionMs: 9_730n });
    assert.equal(await sweep(), 270);
    const asked = { conversationId, senderId: "alice", clientId: clientId(290) };
    assert.equal((await desk().client.findSend({ ...asked, afterSeq: 34 })).seq, 290);
    assert.equal((await desk().client.findSend({ ...asked, senderId: "bob" })).seq, 0);
  });

  it("can be changed, never gives back what is gone, and is nobody's where there is no conversation", async () => {
    await desk().kept(write({ from: 1, count: 20, members }));
    await at(11_000);
    await desk().client.setRetention({ conversationId, retentionMs: 9_990n });
    assert.equal(await sweep(), 10);
    await desk().client.setRetention({ conversationId, retentionMs: 0n });
    assert.equal(await sweep(), 10);
    const { retention } = await desk().client.getRetention({ conversationId });
    assert.deepEqual(
      [retention?.retentionMs, retention?.floorSeq, retention?.removedSeq],
      [0n, 10, 10],
    );
    const none = { conversationId: "g:none", retentionMs: 1n };
    await assert.rejects(desk().client.setRetention(none), { code: Code.NotFound });
    await assert.rejects(desk().client.setRetention({ conversationId, retentionMs: -1n }), {
      code: Code.InvalidArgument,
    });
  });
}
