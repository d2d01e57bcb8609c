/** The protocol's files: linted, never broken against the last release, and the generated code is what they generate. */
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { filesBelow, root, runTool, textOf } from "./support/tree.ts";

/** The protocol as it was released last, as `buf build` made it, its version in its name: no history is needed. */
function released(): { path: string; version: string } {
  const images = filesBelow("proto").filter((name) => name.endsWith(".binpb"));
  const [path = "", ...others] = images;
  assert.deepEqual(others, [], "the last release's alone is compared with");
  const version = /^proto\/released-(\d+\.\d+\.\d+)\.binpb$/.exec(path)?.[1];
  assert.ok(version, "proto/released-X.Y.Z.binpb");
  return { path, version };
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

  it("breaks nothing that the last release has", () => {
    assert.deepEqual(runTool("buf", ["breaking", "--against", released().path]), {
      code: 0,
      output: "",
    });
  });

  it("is compared with the newest release of the changelog", () => {
    const releases = [...textOf("CHANGELOG.md").matchAll(/^## (.+)$/gm)].map(([, name]) => name);
    assert.equal(
      released().version,
      releases.find((name) => name !== "Unreleased"),
    );
  });

  it("would see a field taken away", () => {
    cpSync(join(root, "proto"), join(folder, "proto"), { recursive: true });
    cpSync(join(root, "buf.yaml"), join(folder, "buf.yaml"));
    const path = join(folder, "proto/parley/v1/record.proto");
    const before = readFileSync(path, "utf8");
    const after = before.replace("  string sender_id = 3;\n", "");
    assert.notEqual(after, before);
    writeFileSync(path, after);
    const { code, output } = runTool("buf", ["breaking", folder, "--against", released().path]);
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
