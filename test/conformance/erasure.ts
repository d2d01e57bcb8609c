/** What every store must keep of the erasure of a user: part of the suite of stores. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { type Cell, Kind } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { type Record as ChatRecord, RecordSchema } from "../../proto/gen/parley/v1/record_pb.ts";
import type { MediaStore } from "../../storage/index.ts";
import { batch, type DeskClient, member, write } from "../storage/writes.ts";

const alice = member("alice");
const bob = member("bob");
const direct = "d:alice:bob";

async function records(
  desk: DeskClient,
  conversationId: string,
  userId = "",
): Promise<ChatRecord[]> {
  const page = await desk.page({ conversationId, userId });
  return page.records.map((bytes) => fromBinary(RecordSchema, bytes));
}

const said = ({ senderId, body, erased }: ChatRecord): string =>
  `${erased ? "erased " : ""}${senderId}: ${body.case === "message" ? body.value.text : body.case}`;

/** alice writes all but seq 2, which is bob's. */
async function fill(desk: DeskClient, id = "g:1", kind: Kind = Kind.GROUP): Promise<void> {
  const told = { id, kind, members: [alice, bob] };
  await desk.kept(write({ ...told, from: 1, text: "marker-one" }));
  await desk.kept(write({ ...told, from: 2, sender: "bob", text: "hi" }));
  await desk.kept(write({ ...told, from: 3, count: 100, text: "marker-two" }));
}

async function erase(desk: DeskClient, conversationId: string): Promise<{ messages: number }> {
  const userId = "alice";
  await desk.client.beginErasure({ userId });
  const counts = await desk.client.eraseRecords({ userId, conversationId });
  await desk.client.forgetMember({ userId, conversationId });
  return counts;
}

async function upload(
  desk: DeskClient,
  conversationId: string,
  uploaderId: string,
  text: string,
): Promise<string> {
  async function* parts(): AsyncGenerator<Parameters<Parts>[0]> {
    yield {
      part: { case: "header", value: { conversationId, mediaType: "image/png" } },
      uploaderId,
    };
    yield { part: { case: "chunk", value: Buffer.from(text) } };
  }
  return (await desk.client.putMedia(parts())).header?.mediaId ?? "";
}
type Parts = (
  part: Parameters<DeskClient["client"]["putMedia"]>[0] extends AsyncIterable<infer P> ? P : never,
) => void;

export function erasureCases(desk: () => DeskClient, media?: () => MediaStore): void {
  it("leaves what is left of records at their seqs, and the rest as it was (P3)", async () => {
    await fill(desk());
    await assert.rejects(desk().client.eraseRecords({ userId: "alice", conversationId: "g:1" }), {
      code: Code.FailedPrecondition,
    });
    assert.equal((await erase(desk(), "g:1")).messages, 101);
    const page = await desk().page({ userId: "bob", limit: 200 });
    assert.deepEqual(
      page.seqs,
      Array.from({ length: 102 }, (_, at) => at + 1),
    );
    const [first, second, third] = page.records.map((bytes) => fromBinary(RecordSchema, bytes));
    assert(first && second && third);
    assert.deepEqual([first, second, third].map(said), ["erased : ", "bob: hi", "erased : "]);
    assert.deepEqual([first.clientId.length, first.ordinal, first.timeMs], [0, 1, 1_001n]);
    // The log goes on where it was, and its links hold.
    await desk().kept(write({ from: 103, sender: "bob", members: [bob] }));
    assert.equal((await desk().tail()).headSeq, 103);
  });

  it("does it once, and tells again what is erased to whoever goes on after a crash", async () => {
    await fill(desk());
    const userId = "alice";
    const { receipt: began } = await desk().client.beginErasure({ userId });
    const ask = { userId, conversationId: "g:1" };
    const first = await desk().client.eraseRecords(ask);
    const again = await desk().client.eraseRecords(ask);
    assert.deepEqual([first.messages, again.messages, again.nextAfterSeq], [101, 0, 0]);
    const ranges = [first, again].map(({ erased }) =>
      erased.map((one) => [one.firstSeq, one.lastSeq]),
    );
    assert.deepEqual(ranges, [
      [
        [1, 1],
        [3, 102],
      ],
      [
        [1, 1],
        [3, 102],
      ],
    ]);
    assert.deepEqual(
      (await desk().client.beginErasure({ userId })).receipt?.beganMs,
      began?.beganMs,
    );
    await desk().client.forgetMember({ ...ask });
    await desk().client.forgetMember({ ...ask });
    const { receipt } = await desk().client.finishErasure({ userId });
    assert.deepEqual([receipt?.conversations, receipt?.messages], [1, 101n]);
    assert.deepEqual((await desk().client.finishErasure({ userId })).receipt, receipt);
  });

  it("is not undone by a writer who sends its batch again (P2)", async () => {
    await desk().kept(write({ from: 1, members: [alice, bob], text: "marker" }));
    await erase(desk(), "g:1");
    const again = batch("one", write({ from: 1, members: [bob], text: "marker" }));
    const stream = desk().stream();
    await stream.send(again);
    await stream.close();
    assert.deepEqual((await records(desk(), "g:1")).map(said), ["erased : "]);
  });

  it("takes the user's name from changes of the members", async () => {
    const change = write({ from: 1, members: [alice, bob] });
    const [cell] = change.cells;
    assert(cell !== undefined);
    const record = fromBinary(RecordSchema, cell.record);
    const value = {
      $typeName: "parley.v1.MembershipChange" as const,
      added: ["alice", "bob"],
      removed: [],
      title: "t",
    };
    const changed: Cell = {
      ...cell,
      record: toBinary(RecordSchema, {
        ...record,
        senderId: "bob",
        body: { case: "membership", value },
      }),
    };
    await desk().kept({ ...change, cells: [changed] });
    await erase(desk(), "g:1");
    const [left] = await records(desk(), "g:1");
    assert(left?.body.case === "membership");
    assert.deepEqual([left.senderId, left.erased], ["bob", true]);
    assert.deepEqual([left.body.value.added, left.body.value.title], [["bob"], "t"]);
  });

  it("takes the user out of groups and index, and leaves a direct conversation to the other one (P8)", async () => {
    await fill(desk());
    await fill(desk(), direct, Kind.DIRECT);
    await desk().client.putLastSeen({ seen: [{ userId: "alice", timeMs: 7n }] });
    for (const id of ["g:1", direct]) await erase(desk(), id);
    await desk().client.finishErasure({ userId: "alice" });
    assert.deepEqual(
      await desk()
        .client.listIndex({ userId: "alice" })
        .then(({ rows, erased }) => [rows.length, erased]),
      [0, true],
    );
    for (const conversationId of ["g:1", direct]) {
      assert.equal((await desk().page({ conversationId, userId: "alice" })).found, false);
      const { members } = await desk().client.listMembers({ conversationId, userId: "bob" });
      assert.deepEqual(
        members.map(({ userId }) => userId),
        ["bob"],
      );
    }
    assert.deepEqual(
      (await desk().tail()).members.map(({ userId }) => userId),
      ["bob"],
    );
    const { rows } = await desk().client.listIndex({ userId: "bob" });
    assert.deepEqual(
      rows.map(({ conversationId, state }) => [conversationId, state?.headSeq]),
      [
        [direct, 102],
        ["g:1", 102],
      ],
    );
    // Late, from a presence process that does not know.
    await desk().client.putLastSeen({ seen: [{ userId: "alice", timeMs: 9n }] });
    const { seen } = await desk().client.getLastSeen({ userIds: ["alice"] });
    assert.equal(seen[0]?.timeMs, 0n);
  });

  it("tells a conversation's owner who is erased: of one that is there, and of one that is not", async () => {
    await fill(desk(), direct, Kind.DIRECT);
    await erase(desk(), direct);
    const opened = async (conversationId: string): Promise<unknown> => {
      for await (const { state, erasedUserIds, members } of desk().client.open({ conversationId }))
        return [state?.headSeq, erasedUserIds, members.map(({ userId }) => userId).sort()];
      return undefined;
    };
    assert.deepEqual(await opened(direct), [102, ["alice"], ["alice", "bob"]]);
    assert.deepEqual(await opened("d:alice:zed"), [undefined, ["alice"], []]);
    assert.deepEqual(await opened("d:bob:zed"), [undefined, [], []]);
    const { userIds } = await desk().client.filterErased({ userIds: ["bob", "alice"] });
    assert.deepEqual(userIds, ["alice"]);
  });

  it("leaves nothing of a conversation that nobody has any more", async () => {
    const { client } = desk();
    for (const [id, kind] of [
      ["g:1", Kind.GROUP],
      [direct, Kind.DIRECT],
    ] as const) {
      await fill(desk(), id, kind);
      await client.setRetention({ conversationId: id, retentionMs: 1_000_000_000_000n });
      for (const userId of ["alice", "bob"]) {
        assert.equal((await desk().tail(id)).headSeq, 102);
        await client.beginErasure({ userId });
        await client.eraseRecords({ userId, conversationId: id });
        await client.forgetMember({ userId, conversationId: id });
        await client.forgetMember({ userId, conversationId: id });
      }
      assert.deepEqual(await records(desk(), id), []);
      await assert.rejects(client.getRetention({ conversationId: id }), { code: Code.NotFound });
      const opened: unknown[] = [];
      for await (const { state, members } of client.open({ conversationId: id }))
        opened.push(state, members.length);
      assert.deepEqual(opened, [undefined, 0]);
    }
    for (const userId of ["alice", "bob"]) {
      await client.finishErasure({ userId });
      assert.deepEqual((await client.listIndex({ userId })).rows, []);
    }
  });

  it("removes what the user uploaded, sent or not, and what others uploaded too is theirs still", async () => {
    await fill(desk());
    await fill(desk(), direct, Kind.DIRECT);
    const own = await upload(desk(), "g:1", "alice", "own");
    const shared = await upload(desk(), "g:1", "alice", "shared");
    await upload(desk(), "g:1", "bob", "shared");
    const elsewhere = await upload(desk(), direct, "alice", "elsewhere");
    await upload(desk(), "g:1", "bob", "elsewhere");
    const uploaded = async (userId: string): Promise<string[]> =>
      (await desk().client.listUploads({ userId })).uploads
        .map(({ conversationId, mediaId }) => `${conversationId} ${mediaId}`)
        .sort();
    const theirs = [`g:1 ${shared}`, `g:1 ${elsewhere}`].sort();
    const mine = [`g:1 ${own}`, `g:1 ${shared}`, `${direct} ${elsewhere}`].sort();
    assert.deepEqual([await uploaded("alice"), await uploaded("bob")], [mine, theirs]);
    for (const id of ["g:1", direct]) await erase(desk(), id);
    const { receipt } = await desk().client.finishErasure({ userId: "alice" });
    assert.equal(receipt?.media, 3n);
    assert.deepEqual([await uploaded("alice"), await uploaded("bob")], [[], theirs]);
    const has = async (conversationId: string, mediaId: string): Promise<boolean> =>
      (await get(desk(), conversationId, mediaId)) !== undefined;
    assert.deepEqual([await has("g:1", own), await has("g:1", shared)], [false, true]);
    assert.deepEqual([await has(direct, elsewhere), await has("g:1", elsewhere)], [false, true]);
    if (media !== undefined) {
      const kept = await Promise.all([own, shared, elsewhere].map((id) => media().has(id)));
      assert.deepEqual(kept, [false, true, true]);
    }
    // The same bytes may come again.
    assert.equal(await upload(desk(), "g:1", "bob", "own"), own);
    assert.equal(createHash("sha256").update("own").digest("hex"), own);
    assert(await has("g:1", own));
  });
}

async function get(
  desk: DeskClient,
  conversationId: string,
  mediaId: string,
): Promise<string | undefined> {
  try {
    const parts: Uint8Array[] = [];
    for await (const { part } of desk.client.getMedia({ conversationId, mediaId }))
      if (part.case === "chunk") parts.push(part.value);
    return Buffer.concat(parts).toString();
  } catch {
    return undefined;
  }
}
