/** Erasure in the embedded store: nothing of it is left in any file of the data directory, whenever it was written and whatever happened in between. */
import assert from "node:assert/strict";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { systemClock } from "../../mesh/clock.ts";
import {
  type ConversationWrite,
  Kind,
  LeastCursorSchema,
} from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { Tables } from "../../storage/tables.ts";
import { verifyData } from "../../storage/verify.ts";
import { newFolder, openIn, removeFolder, settings } from "./folder.ts";
import { Desk, member, write } from "./writes.ts";

const mallory = member("mallory-the-user");
const userId = mallory.userId;
const bob = member("bob");

/** Which files have the text, and how large all are. */
async function filesWith(
  folder: string,
  text: string,
  of: (bytes: Buffer) => Buffer = (bytes) => bytes,
): Promise<string[]> {
  const found: string[] = [];
  for (const name of await readdir(folder, { recursive: true })) {
    const path = join(folder, name);
    if (!(await stat(path)).isFile()) continue;
    if (of(await readFile(path)).includes(text)) found.push(name);
  }
  return found;
}

describe("an erasure in a data directory", () => {
  let folder: string;
  let desk: Desk;
  const eager = { config: { checkpointBytes: 20_000, checkpointMs: 1 } };

  const reopen = async (): Promise<void> => {
    await desk.close();
    desk = new Desk(await openIn(folder, eager), systemClock);
  };

  beforeEach(async () => {
    folder = await newFolder();
    desk = new Desk(await openIn(folder, eager));
  });

  afterEach(async () => {
    await desk.close();
    await removeFolder(folder);
  });

  const step = (conversationId: string, afterSeq = 0): ReturnType<Desk["client"]["eraseRecords"]> =>
    desk.client.eraseRecords({ userId, conversationId, afterSeq });

  /** Short and long ones, mallory's and bob's, in several checkpoints. */
  async function fill(id: string, members = [mallory, bob]): Promise<void> {
    for (let from = 1; from <= 300; from += 30) {
      const text = `secret-marker ${"x".repeat(from * 20)}`;
      const own = { id, members, sender: userId, text, from, count: 29 };
      await desk.kept(write(own));
      await desk.kept(write({ id, members, sender: "bob", text: "kept-marker", from: from + 29 }));
    }
  }

  it("leaves none of the bytes, in the tables or the journal", async () => {
    // Once more than fits into a conversation's own row.
    await fill("g:1");
    const many = Array.from({ length: 20 }, (_, at) => member(`user-${at}`));
    await fill("g:2", [mallory, bob, ...many]);
    await reopen();
    await fill("g:3");
    await desk.client.putLastSeen({ seen: [{ userId, timeMs: 5n }] });
    async function* upload(): AsyncGenerator<object> {
      const value = {
        conversationId: "g:3",
        mediaType: "image/png",
        thumbnail: Buffer.from("thumb-marker"),
      };
      yield { part: { case: "header", value }, uploaderId: userId };
      yield { part: { case: "chunk", value: Buffer.from("picture-marker") } };
    }
    await desk.client.putMedia(upload());
    assert.deepEqual((await filesWith(folder, "picture-marker")).length, 1);
    await desk.client.beginErasure({ userId });
    for (const id of ["g:1", "g:2", "g:3"]) {
      assert.equal((await step(id)).messages, 290);
      await desk.client.forgetMember({ userId, conversationId: id });
    }
    assert((await filesWith(folder, "secret-marker")).length > 0, "the scan finds what is there");
    await desk.client.finishErasure({ userId });
    for (const text of ["secret-marker", "thumb-marker", "picture-marker", userId])
      assert.deepEqual(await filesWith(folder, text), [], text);
    assert((await filesWith(folder, "kept-marker")).length > 0);
    await reopen();
    for (const id of ["g:1", "g:2", "g:3"]) {
      const { seqs } = await desk.page({ conversationId: id, userId: "bob", limit: 200 });
      assert.deepEqual([seqs.length, seqs.at(-1)], [200, 300]);
    }
    await desk.kept(write({ id: "g:2", from: 301, sender: "bob", members: [bob] }));
    for (const text of ["secret-marker", userId])
      assert.deepEqual(await filesWith(folder, text), []);
    await desk.close();
    const whole = await verifyData(folder, settings());
    assert.deepEqual([whole.findings, whole.records], [[], 901]);
    desk = new Desk(await openIn(folder, eager));
  });

  it("names the user nowhere but in the ids of direct conversations, and nowhere once the other one is erased, too", async () => {
    const id = "d:bob:mallory-the-user";
    const eve = member("eve");
    const least = create(LeastCursorSchema, { userId, seq: 1, secondSeq: 2 });
    const said = (sender: string, from: number, text: string): ConversationWrite => {
      const told = { id, kind: Kind.DIRECT, sender, from, text, members: [mallory, bob] };
      const one = write(told);
      Object.assign(one.state ?? {}, { leastDelivered: least, leastRead: least });
      return one;
    };
    await desk.kept(said(userId, 1, "secret-marker"));
    await desk.kept(said("bob", 2, "kept-marker"));
    await desk.kept(write({ id: "g:1", from: 1, sender: "eve", members: [eve], text: "eve's" }));
    await desk.client.setRetention({ conversationId: id, retentionMs: 1_000_000_000_000n });
    const forget = async (gone: string): Promise<void> => {
      const whose = { userId: gone, conversationId: id };
      await desk.client.beginErasure({ userId: gone });
      await desk.client.eraseRecords(whose);
      await desk.client.forgetMember(whose);
      await desk.client.finishErasure({ userId: gone });
    };
    await forget(userId);
    const bytesWith = (text: string): Promise<string[]> =>
      filesWith(folder, text, (bytes) => Buffer.from(bytes.toString("latin1").replaceAll(id, "")));
    assert.deepEqual(await bytesWith(userId), []);
    assert(
      (await filesWith(folder, userId)).length > 0,
      "the conversation's id is the other one's",
    );
    // What an owner says late does not bring the name back, and the other one's list is whole.
    await desk.kept({ ...said("bob", 3, "kept-marker"), members: [bob, mallory] });
    await reopen();
    const { rows } = await desk.client.listIndex({ userId: "bob" });
    assert.deepEqual(
      rows.map(({ conversationId, state }) => [
        conversationId,
        state?.headSeq,
        state?.leastRead?.seq,
      ]),
      [[id, 3, 1]],
    );
    const opened = await desk.tail(id);
    assert.deepEqual(opened.members.map((one) => one.userId).sort(), ["bob", userId]);
    await forget("bob");
    for (const text of [userId, "kept-marker", id])
      assert.deepEqual(await filesWith(folder, text), [], text);
    await desk.close();
    const whole = await verifyData(folder, settings());
    assert.deepEqual([whole.findings, whole.records], [[], 1]);
    desk = new Desk(await openIn(folder, eager));
  });

  it("has no row of what a retention removed, but for those that stay", async () => {
    await fill("g:1");
    await desk.kept(write({ id: "g:1", from: 301, sender: "bob", members: [bob] }));
    await reopen();
    await desk.client.setRetention({ conversationId: "g:1", retentionMs: 1n });
    const swept = await desk.client.sweepRetention({ conversationId: "g:1" });
    assert.deepEqual([swept.retention?.floorSeq, swept.more], [301, false]);
    await reopen();
    const page = await desk.page({ conversationId: "g:1", userId: "bob", limit: 200 });
    assert.deepEqual([page.seqs, page.floorSeq], [[301], 301]);
    await desk.close();
    const whole = await verifyData(folder, settings());
    assert.deepEqual([whole.findings, whole.records], [[], 1]);
    const tables = new Tables(folder, join(folder, "tables.mdb"));
    const cells = tables.blocksBelow("g:1", 1_000, 100).flatMap((block) => block.cells);
    await tables.close();
    desk = new Desk(await openIn(folder, eager));
    assert.deepEqual(
      cells.map(({ seq }) => seq),
      [301],
    );
  });

  it("goes on where it was after a crash between any two steps, and writers are not held up", async () => {
    await fill("g:1");
    await fill("g:2");
    await desk.client.beginErasure({ userId });
    await step("g:1");
    await reopen();
    assert.equal((await step("g:1")).messages, 0);
    await desk.client.forgetMember({ userId, conversationId: "g:1" });
    await reopen();
    const { rows } = await desk.client.listIndex({ userId });
    assert.deepEqual(
      rows.map(({ conversationId }) => conversationId),
      ["g:2"],
    );
    assert.equal((await step("g:2")).messages, 290);
    await reopen();
    await desk.client.forgetMember({ userId, conversationId: "g:2" });
    const finish = desk.client.finishErasure({ userId });
    let from = 301;
    const told = { id: "g:2", sender: "bob", members: [bob] };
    for (; from <= 340; from += 1) await desk.kept(write({ ...told, from }));
    const { receipt } = await finish;
    assert.deepEqual([receipt?.messages, receipt?.conversations], [580n, 2]);
    assert.deepEqual(await filesWith(folder, "secret-marker"), []);
    await reopen();
    assert.equal((await desk.tail("g:2")).headSeq, 340);
  });
});
