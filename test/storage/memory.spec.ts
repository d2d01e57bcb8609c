/** The memory store: the suite of all stores, and what it alone can show, a cluster's states between commit and index. */
import { Code } from "@connectrpc/connect";
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom } from "../../mesh/random.ts";
import { Stage } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { openMediaFolder, openMemoryStore } from "../../storage/index.ts";
import type { MemoryStore } from "../../storage/index.ts";
import { storeSuite } from "../conformance/store.ts";
import { batch, cell, clientId, Desk, member, write } from "./writes.ts";

async function open(): Promise<{
  store: MemoryStore;
  media: Awaited<ReturnType<typeof openMediaFolder>>;
  remove: () => Promise<void>;
}> {
  const folder = await mkdtemp(join(tmpdir(), "parley-media-"));
  const media = await openMediaFolder(folder, seededRandom(1));
  return { store: openMemoryStore(), media, remove: () => rm(folder, { recursive: true }) };
}

storeSuite("memory", open);

describe("a memory store between commit and index", () => {
  let opened: Awaited<ReturnType<typeof open>>;
  let desk: Desk;

  beforeEach(async () => {
    opened = await open();
    desk = new Desk(opened);
    await desk.kept(write({ from: 1, count: 2, members: [member("alice")] }));
  });

  afterEach(async () => {
    await desk.close();
    await opened.remove();
  });

  it("answers COMMITTED, then INDEXED, and shows nothing in between but to an owner", async () => {
    let index = (): void => undefined;
    opened.store.hooks.beforeIndex = () => new Promise((resolve) => (index = resolve));
    const stream = desk.stream();
    const committed = batch("one", write({ from: 3 }));
    const answer = stream.send(committed);
    const { headSeq, tail } = await desk.tail();
    assert.deepEqual([headSeq, tail.map(({ seq }) => seq)], [2, [3]]);
    assert.deepEqual((await desk.page({ userId: "alice" })).seqs, [1, 2]);
    const find = { conversationId: "g:1", senderId: "alice", clientId: clientId(3), afterSeq: 2 };
    assert.equal((await desk.client.findSend(find)).seq, 3);
    index();
    assert.equal((await answer).stage, Stage.INDEXED);
    await stream.close();
    assert.deepEqual(
      stream.stages.map(([, stage]) => stage),
      [Stage.COMMITTED, Stage.INDEXED],
    );
    assert.deepEqual((await desk.page({ userId: "alice" })).seqs, [1, 2, 3]);
  });

  it("lets a new owner adopt a tail under its own epoch, and void what does not link", async () => {
    opened.store.plant("g:1", [
      cell({ from: 3, term: 1 }, 3),
      cell({ from: 5, term: 9, previousTerm: 8 }, 5),
    ]);
    assert.deepEqual(
      (await desk.tail()).tail.map(({ seq }) => seq),
      [3, 5],
    );
    await desk.kept(write({ from: 3, term: 1, epoch: 4 }));
    const { headSeq, tail } = await desk.tail();
    assert.deepEqual([headSeq, tail.map(({ seq }) => seq)], [3, [5]]);
    const stale = await desk.append(write({ from: 4, count: 2, term: 4, previousTerm: 1 }));
    assert.deepEqual([stale.stage, stale.code], [Stage.FAILED, Code.FailedPrecondition]);
    await desk.kept(write({ from: 4, count: 2, term: 10, previousTerm: 1 }));
    assert.deepEqual((await desk.page({})).seqs, [1, 2, 3, 4, 5]);
  });

  it("raises the index to a tail without writing it again", async () => {
    opened.store.plant("g:1", [cell({ from: 3, term: 1 }, 3)]);
    await desk.kept({ ...write({ from: 3 }), cells: [] });
    assert.deepEqual((await desk.page({})).seqs, [1, 2, 3]);
  });
});
