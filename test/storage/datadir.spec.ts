/** The data directory: one process, its owner's alone, and never one that a newer Parley wrote. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { systemRandom } from "../../mesh/random.ts";
import { Writer } from "../../storage/codec.ts";
import { lockDataDir } from "../../storage/datadir.ts";
import { Journal } from "../../storage/journal.ts";
import { Rows } from "../../storage/rows.ts";
import { Tables } from "../../storage/tables.ts";
import { within } from "../support/within.ts";
import { newFolder, openIn, removeFolder } from "./folder.ts";
import { batch, member, waitMs, write } from "./writes.ts";

const writer = fileURLToPath(new URL("./writer-process.ts", import.meta.url));

describe("a data directory", () => {
  let folder: string;

  beforeEach(async () => {
    folder = await newFolder();
  });

  afterEach(() => removeFolder(folder));

  it("belongs to one process: the second is told which directory, and it is free after close", async () => {
    const { store } = await openIn(folder);
    await assert.rejects(openIn(folder), new RegExp(`${folder} is in use by another process`));
    await store.close();
    await (await openIn(folder)).store.close();
    const names = await readdir(folder);
    assert.equal(names.filter((name) => /lock-|arriving/.test(name)).length, 1, names.join());
  });

  it("is in use while another process has it, and free once that one was killed", async function () {
    this.timeout(60_000);
    const args = ["--import", "tsx", writer, folder];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    const exited = once(child, "exit");
    await within(waitMs, "the first line", once(createInterface({ input: child.stdout }), "line"));
    await assert.rejects(openIn(folder), /is in use by another process/);
    assert(child.kill("SIGKILL"));
    await exited;
    const { store } = await openIn(folder);
    assert(((await store.conversation("g:0"))?.headSeq ?? 0) > 0);
    await store.close();
  });

  it("goes to one of many that want it at once, also where a dead process left its lock", async () => {
    for (const leftover of ["", "lock-41"]) {
      if (leftover !== "") await writeFile(join(folder, leftover), "");
      for (let round = 0; round < 10; round += 1) {
        const tries = await Promise.allSettled(
          Array.from({ length: 8 }, () => lockDataDir(folder, systemRandom)),
        );
        const held = tries.filter((one) => one.status === "fulfilled");
        assert.equal(held.length, 1, `${held.length} hold it`);
        await held[0]?.value.release();
      }
    }
  });

  it("may have a path longer than a socket's", async () => {
    const long = join(folder, "long".repeat(30), "longer".repeat(20));
    const { store } = await openIn(long);
    await assert.rejects(openIn(long), /is in use by another process/);
    await store.close();
    await (await openIn(long)).store.close();
  });

  it("is closed to others", async () => {
    const made = join(folder, "data");
    await mkdir(made, { mode: 0o755 });
    const { store } = await openIn(made);
    await store.append(
      batch("one", write({ from: 1, members: [member("alice")] })),
      () => undefined,
    );
    assert.equal((await stat(made)).mode & 0o777, 0o700);
    for (const name of await readdir(made, { recursive: true })) {
      const entry = await stat(join(made, name));
      if (entry.isFile()) assert.equal(entry.mode & 0o077, 0, name);
      if (entry.isDirectory()) assert.equal(entry.mode & 0o077, 0, name);
    }
    await store.close();
  });

  it("is left alone where a newer Parley wrote it", async () => {
    await (await openIn(folder)).store.close();
    const tables = new Tables(folder, join(folder, "tables.mdb"));
    const rows = new Rows();
    rows.number("format", 7);
    await tables.write(rows);
    await tables.close();
    const message = new RegExp(`${folder} was written by a newer Parley \\(format 7`);
    await assert.rejects(openIn(folder), message);
    await assert.rejects(openIn(folder), message);
  });

  it("is left alone where a newer Parley wrote what this one does not know into its journal, and says what to do", async () => {
    const { store } = await openIn(folder);
    await store.revoke("one");
    await store.close();
    const tables = new Tables(folder, join(folder, "tables.mdb"));
    const { applied } = tables;
    await tables.close();
    const { journal } = await Journal.open(folder, systemRandom, applied);
    const group = new Writer(100);
    Journal.begin(group);
    group.byte(250);
    await journal.append(group);
    await journal.close();
    const journals = (): Promise<Buffer[]> =>
      Promise.all(["journal-0", "journal-1"].map((name) => readFile(join(folder, name))));
    const before = await journals();
    const message = new RegExp(
      `${folder} was written by a newer Parley \\(.*kind \\(250\\)\\): start that version again, or restore`,
    );
    await assert.rejects(openIn(folder), message);
    await assert.rejects(openIn(folder), message);
    assert.deepEqual(await journals(), before);
  });

  it("is named where its tables are none", async () => {
    await writeFile(join(folder, "tables.mdb"), "x".repeat(20_000));
    await assert.rejects(openIn(folder), new RegExp(`${folder} cannot be opened`));
  });
});
