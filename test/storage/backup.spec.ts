/** A backup of a data directory that a process writes to as fast as it can, and what a check of a directory finds. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { create } from "@bufbuild/protobuf";
import { MediaHeaderSchema } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { backUp, verifyData } from "../../storage/index.ts";
import { mediaPath } from "../../storage/media.ts";
import { noRetention } from "../../storage/retention.ts";
import { Rows } from "../../storage/rows.ts";
import { Tables } from "../../storage/tables.ts";
import { within } from "../support/within.ts";
import { newFolder, openIn, removeFolder, settings } from "./folder.ts";
import { batch, member, waitMs, write } from "./writes.ts";

const conversations = 20;
const writer = fileURLToPath(new URL("./writer-process.ts", import.meta.url));

describe("a backup of the data directory", () => {
  let folder: string;
  let data: string;

  beforeEach(async () => {
    folder = await newFolder();
    data = join(folder, "data");
  });

  afterEach(() => removeFolder(folder));

  it("P1 P3: taken while a process writes and checkpoints, has all that was answered before it began, whole", async function () {
    this.timeout(60_000);
    await mkdir(data);
    const args = ["--import", "tsx", writer, data, String(conversations)];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    const exited = once(child, "exit");
    const answered = new Map<string, number>();
    const lines = createInterface({ input: child.stdout });
    lines.on("line", (line) => {
      const [id = "", seq = ""] = line.split(" ");
      answered.set(id, Number(seq));
    });
    try {
      for (const name of ["one", "two", "three"]) {
        for (let line = 0; line < 200; line += 1)
          await within(waitMs, "a line", once(lines, "line"));
        const before = new Map(answered);
        const copy = join(folder, name);
        await backUp(data, copy);
        const { findings, records } = await verifyData(copy, settings());
        assert.deepEqual(findings, []);
        const { store } = await openIn(copy);
        let kept = 0;
        for (const [id, seq] of before) {
          const headSeq = (await store.conversation(id))?.headSeq ?? 0;
          assert(headSeq >= seq, `${id}: seq ${seq} was answered, the copy's head is ${headSeq}`);
          kept += headSeq;
        }
        assert.equal(records, kept);
        await store.close();
      }
    } finally {
      child.kill("SIGKILL");
      await exited;
    }
  });

  it("has everything beside the tables, and no lock", async () => {
    const mediaId = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    const { store } = await openIn(data);
    await store.append(batch("one", write({ from: 1, members: [member("al")] })), () => undefined);
    await store.putMedia(create(MediaHeaderSchema, { conversationId: "g:1", mediaId }), "");
    await store.close();
    const medium = mediaPath(join(data, "media"), mediaId);
    await mkdir(dirname(medium));
    await writeFile(medium, "hello");
    await writeFile(join(data, "owner.json"), "{}");
    const copy = join(folder, "copy");
    await backUp(data, copy);
    const names = (await readdir(copy)).sort();
    assert.deepEqual(names, ["journal-0", "journal-1", "media", "owner.json", "tables.mdb"]);
    assert.deepEqual(await verifyData(copy, settings()), {
      conversations: 1,
      records: 1,
      media: 1,
      findings: [],
    });
    await assert.rejects(backUp(data, copy), /is there already/);
    await assert.rejects(backUp(join(folder, "no"), join(folder, "copy-2")), /no data directory/);
    await writeFile(mediaPath(join(copy, "media"), mediaId), "hellO");
    assert.match(String((await verifyData(copy, settings())).findings), /is damaged/);
    await rm(mediaPath(join(copy, "media"), mediaId));
    assert.match(String((await verifyData(copy, settings())).findings), /is not there/);
  });

  it("is whole where retention has removed the beginning of a log", async () => {
    const { store } = await openIn(data);
    const id = "g:1";
    await store.append(
      batch("one", write({ id, from: 1, count: 9, members: [member("al")] })),
      () => undefined,
    );
    await store.putRetention({ ...noRetention(id), floorSeq: 4, removedSeq: 4 });
    await store.trim(id, 1, 4);
    await store.close();
    const { findings, records } = await verifyData(data, settings());
    assert.deepEqual([findings, records], [[], 6]);
  });

  it("is not whole where a record, a link or an index row is missing", async () => {
    const states = ["g:1", "g:2", "g:3"].map((id) =>
      write({ id, from: 1, count: 3, members: [member("al")] }),
    );
    const { store } = await openIn(data);
    for (const one of states) await store.append(batch("one", one), () => undefined);
    await store.close();
    const rows = new Rows();
    const later = write({ id: "g:1", from: 1, count: 4 });
    assert(later.state);
    rows.conversation("g:1", { state: later.state, spilled: false, members: [] });
    const other = write({ id: "g:2", from: 1, count: 3, term: 2 });
    assert(other.state);
    rows.conversation("g:2", { state: other.state, spilled: false, members: [] });
    assert(states[2]?.state);
    const stranger = [member("stranger")];
    rows.conversation("g:3", { state: states[2].state, spilled: false, members: stranger });
    const tables = new Tables(data, join(data, "tables.mdb"));
    await tables.write(rows);
    await tables.close();
    const { findings } = await verifyData(data, settings());
    assert.deepEqual(findings, [
      "g:1: the log ends at seq 3, the head is 4",
      "g:2: the head has term 2, its record 1",
      "g:3: stranger is a member, and has it not in their index",
    ]);
  });
});
