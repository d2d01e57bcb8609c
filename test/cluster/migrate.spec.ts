/** `parley migrate` where Cassandra is not there yet, as when both are installed at once. It says so every ten seconds, which is too long for `npm test`. */
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { spawnParley } from "../support/server-process.ts";
import { within } from "../support/within.ts";

const boundMs = 60_000;
/** Nobody listens there. */
const nowhere = "127.73.0.1:1";

describe("parley migrate", () => {
  it("waits for Cassandra for as long as it takes", async () => {
    const child = spawnParley(["migrate"], { PARLEY_CASSANDRA: nowhere });
    const { stderr } = child;
    assert.ok(stderr);
    const ended = new Promise<never>((_, reject) =>
      child.once("close", (code) => reject(new Error(`it ended with ${code}`))),
    );
    let lines = 0;
    const twice = new Promise<void>((resolve) => {
      createInterface({ input: stderr }).on("line", (line) => {
        assert.match(line, /waiting for Cassandra/);
        if (++lines === 2) resolve();
      });
    });
    await within(boundMs, "the second word of it", Promise.race([twice, ended]));
    child.kill("SIGTERM");
    await assert.rejects(within(boundMs, "its end", ended), /it ended with null/);
  });
});
