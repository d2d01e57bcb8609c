/** What every storage must keep of retentions, whatever its clock says of the present minute. */
import assert from "node:assert/strict";
import { Code } from "@connectrpc/connect";
import { systemClock } from "../../../mesh/clock.ts";
import { type DeskClient, clientId, member, write } from "../../storage/writes.ts";

const members = [member("alice"), member("bob")];
const conversationId = "g:1";
const hourMs = 3_600_000;

/** In steps, each of which is bounded. */
async function sweep({ client }: DeskClient): Promise<number> {
  for (;;) {
    const { retention, more } = await client.sweepRetention({ conversationId });
    if (!more) return retention?.floorSeq ?? 0;
  }
}

export function retentionCases(desk: () => DeskClient): void {
  it("removes what is older than is kept, tells of the floor, and never gives it back (P2 P3)", async () => {
    const { client } = desk();
    const nowMs = Math.floor(systemClock.now());
    await desk().kept(write({ from: 1, count: 100, members, timeMs: nowMs - 3 * hourMs }));
    await desk().kept(write({ from: 101, count: 50, timeMs: nowMs - hourMs / 2 }));
    const kept = (await client.getRetention({ conversationId })).retention;
    assert.deepEqual([kept?.retentionMs, kept?.floorSeq], [0n, 0]);
    await client.setRetention({ conversationId, retentionMs: BigInt(hourMs) });
    for (let times = 0; times < 2; times += 1) assert.equal(await sweep(desk()), 101);
    const older = await desk().page({ userId: "alice", beforeSeq: 120, limit: 200 });
    assert.deepEqual([older.seqs[0], older.seqs.length, older.floorSeq], [101, 19, 101]);
    const below = await desk().page({ userId: "bob", beforeSeq: 50, limit: 10 });
    assert.deepEqual([below.found, below.seqs, below.floorSeq], [true, [], 101]);
    const sent = { conversationId, senderId: "alice", clientId: clientId(130) };
    assert.equal((await client.findSend(sent)).seq, 130);
    await desk().kept(write({ from: 151 }));
    await client.setRetention({ conversationId, retentionMs: 0n });
    assert.equal(await sweep(desk()), 101);
    const { retention } = await client.getRetention({ conversationId });
    assert.deepEqual([retention?.retentionMs, retention?.floorSeq], [0n, 101]);
  });

  it("keeps the record at the head, however old, and refuses what is no retention", async () => {
    const { client } = desk();
    await desk().kept(write({ from: 1, count: 20, members }));
    await client.setRetention({ conversationId, retentionMs: 1n });
    assert.equal(await sweep(desk()), 20);
    const { seqs, floorSeq } = await desk().page({ userId: "bob", limit: 200 });
    assert.deepEqual([seqs, floorSeq], [[20], 20]);
    await assert.rejects(client.setRetention({ conversationId, retentionMs: -1n }), {
      code: Code.InvalidArgument,
    });
    const none = { conversationId: "g:none", retentionMs: 1n };
    await assert.rejects(client.setRetention(none), { code: Code.NotFound });
    await assert.rejects(client.getRetention(none), { code: Code.NotFound });
  });
}
