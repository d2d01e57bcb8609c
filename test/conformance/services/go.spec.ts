/** Presence in Go keeps to the contract of presence: tried by the command that anybody would use. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { buildGoPresence } from "../../support/go.ts";
import { root } from "../../support/tree.ts";
import { contracts } from "./contracts.ts";

const host = `${process.env["TEST_NETWORK"] ?? "127.50"}.9.3`;

const command = ["--import", "tsx", "test/conformance/services/main.ts"];

/** What the command says, and the code that it ends with. */
function tried(args: readonly string[]): Promise<{ code: number; said: string }> {
  const env = { ...process.env, PARLEY_HEALTH_HOST: host, PARLEY_HEALTH_PORT: "0" };
  return new Promise((resolve) => {
    const options = { cwd: root, env, timeout: 600_000 };
    execFile(process.execPath, [...command, ...args], options, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), said: stdout + stderr }),
    );
  });
}

describe("presence in Go", () => {
  it("keeps to the contract of presence", async function () {
    this.timeout(900_000);
    const built = buildGoPresence();
    if (built.lack !== undefined) {
      console.log(`      skipped: ${built.lack}`);
      this.skip();
    }
    const places = ["--address", `${host}:9190`, "--etcd", `${host}:2390`];
    const { code, said } = await tried(["--service", "presence", ...places, "--", built.program]);
    const passed = contracts.presence.titles.length + 1;
    assert.match(said, new RegExp(`^${passed} passed, 0 failed$`, "m"), said);
    assert.equal(code, 0);
  });
});

describe("npm run conformance", () => {
  it("says how it is used, and ends with a code, where it is used otherwise", async function () {
    this.timeout(60_000);
    for (const args of [[], ["--service", "kitchen", "--address", `${host}:1`]]) {
      const { code, said } = await tried(args);
      assert.equal(code, 2);
      assert.match(
        said,
        /--service gateway\|session\|delivery\|presence\|storage --address HOST:PORT/,
      );
    }
  });
});
