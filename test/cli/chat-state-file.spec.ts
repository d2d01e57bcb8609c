import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freeStateFile, stateFolder, takeStateFile } from "../../cli/chat-state-file.ts";

describe("a chat's state file", () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "parley-state-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it("is where the system keeps such things", () => {
    assert.equal(stateFolder({ XDG_STATE_HOME: "/x" }), join("/x", "parley"));
    assert.match(stateFolder({}), /\.local.state.parley$/);
  });

  it("is one for each user and server, and for each window", async () => {
    const url = "http://[::1]:8080/";
    const one = await freeStateFile(folder, "a@b.c", url);
    assert.equal(one.path, join(folder, "a@b.c@---1--8080.json"));
    const two = await freeStateFile(folder, "a@b.c", url);
    assert.equal(two.path, join(folder, "a@b.c@---1--8080.2.json"));
    await one.release();
    const again = await freeStateFile(folder, "a@b.c", url);
    assert.equal(again.path, one.path);
  });

  it("is not shared while its process lives, and not lost with it", async () => {
    const path = join(folder, "x.json");
    writeFileSync(`${path}.lock`, String(process.pid));
    assert.equal(await takeStateFile(path), undefined);
    // No system has so many processes.
    writeFileSync(`${path}.lock`, String(2 ** 30));
    const file = await takeStateFile(path);
    assert.equal(file?.path, path);
    await file?.release();
    assert.ok(!existsSync(`${path}.lock`));
  });

  it("names the limit of windows", async () => {
    for (let window = 1; window <= 9; window += 1) await freeStateFile(folder, "a", "http://h");
    await assert.rejects(freeStateFile(folder, "a", "http://h"), /--state/);
  });
});
