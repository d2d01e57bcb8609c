/** Checkpoints: that writers wait for one where they must, that they come by themselves, and what they leave to the next start. */
import assert from "node:assert/strict";
import { cp, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { ManualClock } from "../../mesh/clock.ts";
import { Tables } from "../../storage/tables.ts";
import { asked, within } from "../support/within.ts";
import { newFolder, openIn, removeFolder } from "./folder.ts";
import { batch, member, waitMs, write } from "./writes.ts";

describe("a checkpoint", () => {
  let folder: string;

  beforeEach(async () => {
    folder = await newFolder();
  });

  afterEach(() => removeFolder(folder));

  /** What the tables have, without the journal. Only while no store is open. */
  async function inTables(): Promise<number | undefined> {
    const tables = new Tables(folder, join(folder, "tables.mdb"));
    const headSeq = tables.conversation("g:1")?.state.headSeq;
    await tables.close();
    return headSeq;
  }

  const one = (from: number): ReturnType<typeof batch> =>
    batch(
      "one",
      write({ from, text: "x".repeat(2_000), members: from === 1 ? [member("alice")] : [] }),
    );

  it("makes writers wait where too much is unwritten, and refuses none", async () => {
    const config = { checkpointBytes: 1e12, checkpointMs: 1e12, unwrittenBytesMax: 5_000 };
    const { store } = await openIn(folder, { config, clock: new ManualClock() });
    for (let from = 1; from <= 100; from += 1) {
      await within(
        waitMs,
        `batch ${from}`,
        store.append(one(from), () => undefined),
      );
    }
    const together = Array.from({ length: 100 }, (_, index) =>
      store.append(one(101 + index), () => undefined),
    );
    await within(waitMs, "all batches", Promise.all(together));
    assert.equal((await store.conversation("g:1"))?.headSeq, 200);
    await store.close();
    assert.equal(await inTables(), 200);
  });

  it("comes a while after the first change, and is not needed to close", async () => {
    const clock = new ManualClock();
    const { store } = await openIn(folder, { clock, config: { checkpointMs: 5_000 } });
    await store.append(one(1), () => undefined);
    clock.advance(4_999);
    await store.append(one(2), () => undefined);
    clock.advance(1);
    // With the checkpoint done, the next group goes to the other file, which then has something.
    await asked(waitMs, "the checkpoint", async () => {
      clock.advance(5_000);
      await store.append(
        one(((await store.conversation("g:1"))?.headSeq ?? 0) + 1),
        () => undefined,
      );
      const { size } = await stat(join(folder, "journal-1"));
      return size > 0 ? true : undefined;
    });
    const headSeq = (await store.conversation("g:1"))?.headSeq;
    await store.close();
    assert.equal(await inTables(), headSeq);
    const again = await openIn(folder, { clock });
    assert.equal((await again.store.conversation("g:1"))?.headSeq, headSeq);
    await again.store.close();
  });

  it("and the journal keep revocations, times and media over a restart and over a crash", async () => {
    const header = {
      conversationId: "g:1",
      mediaId: "ab".repeat(32),
      mediaType: "image/png",
      size: 5,
      width: 1,
      height: 2,
      thumbnail: Uint8Array.of(7),
    };
    const $typeName = "parley.storage.v1.MediaHeader";
    for (const checkpointBytes of [0, 1e12]) {
      const { store } = await openIn(folder, { config: { checkpointBytes } });
      const incarnation = `of ${checkpointBytes}`;
      await store.revoke(incarnation);
      await store.putLastSeen([
        { $typeName: "parley.storage.v1.LastSeen", userId: incarnation, timeMs: 42n },
      ]);
      await store.putMedia({ $typeName, ...header, conversationId: incarnation }, "");
      // With nothing under way, a copy is what a crash would leave.
      const crashed = await newFolder();
      const filter = (path: string): boolean => !basename(path).startsWith("lock-");
      await cp(folder, crashed, { recursive: true, filter });
      await store.close();
      if (checkpointBytes > 0) {
        await removeFolder(folder);
        folder = crashed;
      } else await removeFolder(crashed);
      const again = await openIn(folder);
      const refused = again.store.append(batch(incarnation), () => undefined);
      await assert.rejects(refused, /is revoked/);
      assert.deepEqual(await again.store.lastSeen([incarnation, "eve"]), [42n, 0n]);
      const media = await again.store.media(incarnation, header.mediaId);
      assert.deepEqual([media?.size, media?.mediaType, media?.thumbnail[0]], [5, "image/png", 7]);
      assert.equal(await again.store.media("g:other", header.mediaId), undefined);
      await again.store.close();
    }
  });
});
