/** A full disk: what does not fit fails by name and is never seen, what was answered stays, and with room it goes on. */
import { Code } from "@connectrpc/connect";
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ManualClock } from "../../mesh/clock.ts";
import { Stage } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import type { AppendResponse } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { asked } from "../support/within.ts";
import { newFolder, openIn, removeFolder } from "./folder.ts";
import { batch, Desk, member, waitMs, write } from "./writes.ts";

const canMount = process.platform === "linux" && process.getuid?.() === 0;

function run(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: "ignore", timeout: 10_000 }).status === 0;
}

describe("a full disk", () => {
  let folder: string;
  const keptError = console.error;

  before(async function () {
    folder = await newFolder();
    if (canMount && run("mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder)) {
      // lmdb prints its failures.
      console.error = () => undefined;
      return;
    }
    console.log("      skipped: needs to be root on Linux, to mount a small tmpfs");
    this.skip();
  });

  after(async () => {
    console.error = keptError;
    run("umount", folder);
    await removeFolder(folder);
  });

  it("fails writes with RESOURCE_EXHAUSTED, keeps what it answered, and goes on when there is room (P1)", async function () {
    this.timeout(60_000);
    const data = join(folder, "data");
    const ballast = join(folder, "ballast");
    await writeFile(ballast, Buffer.alloc(3 * 1_048_576));
    const config = { checkpointBytes: 262_144, unwrittenBytesMax: 1_048_576 };
    const clock = new ManualClock();
    const deps = await openIn(data, { config, clock });
    const desk = new Desk(deps, clock);
    const stream = desk.stream();
    let headSeq = 0;
    const text = "x".repeat(10_000);
    const send = (count: number, from = headSeq + 1): Promise<AppendResponse> =>
      stream.send(batch("one", write({ from, count, text, members: [member("alice")] })));

    let failed: AppendResponse | undefined;
    for (let tries = 0; failed === undefined && tries < 1_000; tries += 1) {
      const pair = [send(10), send(10, headSeq + 11)];
      for (const answer of await Promise.all(pair)) {
        if (answer.stage === Stage.INDEXED) headSeq += 10;
        else failed ??= answer;
      }
    }
    assert.equal(failed?.code, Code.ResourceExhausted, failed?.message);
    assert.match(failed.message, new RegExp(`the disk is full.*${data}; free some space`));
    assert(headSeq > 100);
    assert.equal((await desk.tail()).headSeq, headSeq);
    assert.match(deps.store.problems().join(), /the disk is full/);
    assert.equal((await send(1, headSeq + 50)).code, Code.FailedPrecondition);
    const upload = desk.client.putMedia(
      (async function* () {
        yield { part: { case: "header" as const, value: { conversationId: "g:1" } } };
        for (let index = 0; index < 200; index += 1) {
          yield { part: { case: "chunk" as const, value: Buffer.alloc(65_536) } };
        }
        return Promise.resolve();
      })(),
    );
    await assert.rejects(upload, { code: Code.ResourceExhausted });

    await rm(ballast);
    await asked(waitMs, "a write with room", async () => {
      clock.advance(1_000);
      const { stage } = await send(10);
      return stage === Stage.INDEXED ? stage : undefined;
    });
    headSeq += 10;
    await asked(waitMs, "no problems", async () => {
      clock.advance(1_000);
      await send(1, headSeq + 1).then(({ stage }) => (headSeq += stage === Stage.INDEXED ? 1 : 0));
      return deps.store.problems().length === 0 ? true : undefined;
    });
    await stream.close();
    await desk.close();
    const { store } = await openIn(data);
    assert.equal((await store.conversation("g:1"))?.headSeq, headSeq);
    const cells = await store.cells("g:1", 1, 0xffff_ffff);
    assert.deepEqual(
      cells.map(({ seq }) => seq),
      Array.from({ length: headSeq }, (_, index) => index + 1),
    );
    await store.close();
  });
});
