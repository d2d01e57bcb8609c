/** The journal: what it has after a crash at any byte, and that nothing passes for a group that is none. */
import assert from "node:assert/strict";
import { copyFile, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { seededRandom } from "../../mesh/random.ts";
import { Writer } from "../../storage/codec.ts";
import { Journal } from "../../storage/journal.ts";
import type { Group } from "../../storage/journal.ts";
import { newFolder, removeFolder } from "./folder.ts";

describe("the journal", () => {
  let folder: string;
  let writer: Writer;

  beforeEach(async () => {
    folder = await newFolder();
    writer = new Writer(1_000);
  });

  afterEach(() => removeFolder(folder));

  const open = (applied: number): ReturnType<typeof Journal.open> =>
    Journal.open(folder, seededRandom(applied), applied);

  async function append(journal: Journal, ...bodies: string[]): Promise<void> {
    for (const body of bodies) {
      Journal.begin(writer);
      writer.text(body);
      await journal.append(writer);
    }
  }

  const texts = (groups: Group[]): string[] => groups.map(({ body }) => body.toString("utf8", 1));

  async function reopened(applied: number): Promise<string[]> {
    const { journal, groups } = await open(applied);
    await journal.close();
    return texts(groups);
  }

  it("has all groups after those that are applied, across a turn", async () => {
    const { journal } = await open(0);
    await append(journal, "a", "b");
    journal.turn(0);
    await append(journal, "c", "d");
    journal.turn(0);
    await append(journal, "e");
    assert.equal(journal.lastNumber, 5);
    await journal.close();
    assert.deepEqual(await reopened(0), ["a", "b", "c", "d", "e"]);
    assert.deepEqual(await reopened(3), ["d", "e"]);
    assert.deepEqual(await reopened(5), []);
  });

  it("writes over what is applied and never shows it again", async () => {
    const { journal } = await open(0);
    await append(journal, "a-long-one", "b-long-one", "c");
    journal.turn(0);
    await append(journal, "d");
    journal.turn(4);
    await append(journal, "e");
    await journal.close();
    assert.deepEqual(await reopened(4), ["e"]);
    const again = await open(4);
    await append(again.journal, "f");
    await again.journal.close();
    assert.deepEqual(await reopened(4), ["e", "f"]);
  });

  it("ends before a group that was cut anywhere", async () => {
    const { journal } = await open(0);
    await append(journal, "first", "later");
    await journal.close();
    const path = join(folder, "journal-0");
    const whole = join(folder, "whole");
    await copyFile(path, whole);
    const { length } = await readFile(whole);
    for (let cut = length - 1; cut >= length / 2; cut -= 1) {
      await copyFile(whole, path);
      await truncate(path, cut);
      assert.deepEqual(await reopened(0), ["first"], `cut at ${cut}`);
    }
    for (let at = length / 2; at < length; at += 1) {
      const bytes = await readFile(whole);
      bytes[at] = (bytes[at] ?? 0) ^ 1;
      await writeFile(path, bytes);
      assert.deepEqual(await reopened(0), ["first"], `a bit at ${at}`);
    }
  });

  it("is not opened where a group in the middle is gone", async () => {
    const { journal } = await open(0);
    await append(journal, "a", "b");
    journal.turn(0);
    await append(journal, "c");
    await journal.close();
    const path = join(folder, "journal-0");
    await truncate(path, (await readFile(path)).length - 1);
    await assert.rejects(open(0), /is damaged: group 2 is missing and 3 is there/);
  });

  it("takes nothing for a group that a message brought, be it right in all but what nobody outside knows", async () => {
    const { journal } = await open(0);
    await append(journal, "a");
    await journal.close();
    const other = await newFolder();
    const forged = await Journal.open(other, seededRandom(99), 0);
    await append(forged.journal, "x", "forged");
    await forged.journal.close();
    const bytes = await readFile(join(other, "journal-0"));
    const ours = await readFile(join(folder, "journal-0"));
    await writeFile(join(folder, "journal-0"), Buffer.concat([ours, bytes.subarray(ours.length)]));
    assert.deepEqual(await reopened(0), ["a"]);
    await removeFolder(other);
  });
});
