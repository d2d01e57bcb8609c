/** The protocol's files: linted, never broken against main, and the generated code is what they generate. */
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { filesBelow, root, runTool, textOf } from "./support/tree.ts";

/** Where this checkout left main, or the commit before when it is main; undefined where the clone has no such commit. */
function commitOfMain(): string | undefined {
  const commit = (args: string[]): string | undefined => {
    const found = runTool("git", args);
    return found.code === 0 ? found.output.trim() : undefined;
  };
  const head = commit(["rev-parse", "--verify", "--quiet", "HEAD"]);
  return ["origin/main", "main", "HEAD~1"]
    .map((name) => commit(["merge-base", "HEAD", name]))
    .find((base) => base !== undefined && base !== head);
}

describe("protocol", function () {
  this.timeout(60_000);
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "parley-proto-"));
  });

  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  it("passes buf lint", () => {
    assert.deepEqual(runTool("buf", ["lint"]), { code: 0, output: "" });
  });

  it("breaks nothing that is on main", function () {
    const commit = commitOfMain();
    if (commit === undefined) {
      console.log("      skipped: this clone has no commit of main to compare with");
      this.skip();
    }
    const main = join(folder, "main.tar");
    const archive = runTool("git", ["archive", "--output", main, commit, "buf.yaml", "proto"]);
    assert.equal(archive.code, 0, archive.output);
    assert.deepEqual(runTool("buf", ["breaking", "--against", main]), { code: 0, output: "" });
  });

  it("would see a field taken away", () => {
    cpSync(join(root, "proto"), join(folder, "proto"), { recursive: true });
    cpSync(join(root, "buf.yaml"), join(folder, "buf.yaml"));
    const path = join(folder, "proto/parley/v1/record.proto");
    const before = readFileSync(path, "utf8");
    const after = before.replace("  string sender_id = 3;\n", "");
    assert.notEqual(after, before);
    writeFileSync(path, after);
    const { code, output } = runTool("buf", ["breaking", folder, "--against", root]);
    assert.notEqual(code, 0);
    assert.match(output, /field "3" with name "sender_id" on message "Record" was deleted/);
  });

  it("has its generated code fresh: else run `npm run generate`", () => {
    const { code, output } = runTool("buf", ["generate", "--output", folder]);
    assert.equal(code, 0, output);
    const committed = filesBelow("proto/gen");
    const generated = runTool("find", ["proto/gen", "-type", "f"], folder);
    assert.deepEqual(committed, generated.output.trim().split("\n").sort());
    for (const path of committed) {
      assert.equal(textOf(path), readFileSync(join(folder, path), "utf8"), path);
    }
  });
});
