/** The alert rules: Prometheus' own tool takes them, and they come when they should and not before. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "../support/tree.ts";
import { runs, tool } from "./tools.ts";

const { folder = "", lack } = await tool("promtool");
if (lack !== "") console.log(`skipped: ${lack}`);

const promtool = join(folder, "promtool");

describe("the alert rules", () => {
  before(function () {
    if (lack !== "") this.skip();
  });

  it("are rules", async () => {
    const path = join(root, "helm/parley/files/rules.yaml");
    const { code, output, errors } = await runs(promtool, ["check", "rules", path]);
    assert.equal(code, 0, output + errors);
  });

  it("come when they should, and not before", async () => {
    const path = join(root, "test/helm/rules.test.yaml");
    const { code, output, errors } = await runs(promtool, ["test", "rules", path]);
    assert.equal(code, 0, output + errors);
  });

  it("are refused where they are none", async () => {
    const place = await mkdtemp(join(tmpdir(), "parley-test-"));
    try {
      const path = join(place, "rules.yaml");
      await writeFile(path, "groups: [{ name: a, rules: [{ alert: A, expr: 'sum(' }] }]\n");
      assert.notEqual((await runs(promtool, ["check", "rules", path])).code, 0);
    } finally {
      await rm(place, { recursive: true, force: true });
    }
  });
});
