/** kill -9 under load: every answered batch is there afterwards, once, in order (P1, P2, P3). */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { within } from "../support/within.ts";
import { newFolder, openIn, removeFolder } from "./folder.ts";
import { cell, waitMs } from "./writes.ts";

const conversations = 20;
const writer = fileURLToPath(new URL("./writer-process.ts", import.meta.url));

/** Runs a writer until it has said so many lines, kills it, and answers with the last seq that it said of each conversation. */
async function writeAndKill(folder: string, lines: number): Promise<Map<string, number>> {
  const args = ["--import", "tsx", writer, folder, String(conversations)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(child, "exit");
  const answered = new Map<string, number>();
  let seen = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    const [id = "", seq = ""] = line.split(" ");
    answered.set(id, Number(seq));
    if ((seen += 1) === lines) assert(child.kill("SIGKILL"));
  }
  const [code, signal] = (await exited) as [number | null, string | null];
  assert.equal(signal, "SIGKILL", `the writer ended by itself: ${code}`);
  return answered;
}

describe("the store over lmdb, killed", () => {
  it("has every answered batch, however often it is killed under load", async function () {
    this.timeout(120_000);
    const folder = await newFolder();
    for (const lines of [1, 300, 2_000, 777, 3_500]) {
      const answered = await within(4 * waitMs, "the writer", writeAndKill(folder, lines));
      assert(answered.size > 0);
      const { store } = await openIn(folder);
      for (const [id, seq] of answered) {
        const headSeq = (await store.conversation(id))?.headSeq ?? 0;
        assert(headSeq >= seq, `${id}: seq ${seq} was answered, the head is ${headSeq}`);
        const cells = await store.cells(id, 1, 0xffff_ffff);
        assert.deepEqual(
          cells.map((one) => one.seq),
          Array.from({ length: headSeq }, (_, index) => index + 1),
        );
        for (const one of cells.slice(-20)) {
          assert.deepEqual(
            Buffer.from(one.record),
            Buffer.from(cell({ id, from: 1 }, one.seq).record),
          );
        }
        const [alice] = await store.members(id, ["alice"]);
        assert(alice !== undefined && alice.readSeq < headSeq && alice.readSeq >= seq - 3);
        assert((await store.index("alice")).some(({ conversationId }) => conversationId === id));
      }
      await store.close();
    }
    await removeFolder(folder);
  });
});
