/** `parley start` as a command: settings that are told when they are wrong, a port that is taken, the end by SIGTERM. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { newFolder } from "../support/parley.ts";
import { ServerProcess } from "../support/server-process.ts";
import { Town, textTo } from "../support/town.ts";
import { asked } from "../support/within.ts";

describe("the process", () => {
  it("names all wrong settings at once, and ends with code 1", async () => {
    const { code, output } = await ServerProcess.run({
      PARLEY_PORT: "abc",
      PARLEY_HEARTBEAT_MS: "0",
      PARLEY_LOG_LEVEL: "loud",
      PARLEY_JWT_SECRET: "short",
      PARLEY_JWKS_URL: "http://127.0.0.1/keys",
      PARLEY_HEARTBEET_MS: "1000",
    });
    assert.equal(code, 1, output);
    for (const fault of [
      /PARLEY_PORT must be a whole number from 0 to 65535, not "abc"/,
      /PARLEY_HEARTBEAT_MS must be a whole number from 1000 to 600000, not "0"/,
      /PARLEY_LOG_LEVEL must be one of trace, .* not "loud"/,
      /PARLEY_JWT_SECRET must have 32 bytes/,
      /only one of PARLEY_JWT_SECRET/,
      /PARLEY_HEARTBEET_MS is not a setting; did you mean PARLEY_HEARTBEAT_MS\?/,
    ])
      assert.match(output, fault);
    assert.doesNotMatch(output, /\n\s+at /, "no stack");
  });

  it("refuses to be reached by others while nothing says how tokens are checked", async () => {
    const { code, output } = await ServerProcess.run({ PARLEY_HOST: "0.0.0.0", PARLEY_PORT: "0" });
    assert.equal(code, 1);
    assert.match(output, /PARLEY_HOST is 0\.0\.0\.0.*set PARLEY_JWT_SECRET/);
  });

  it("says so where its port is taken, and lets go of its data", async () => {
    const folder = await newFolder();
    const first = await ServerProcess.start(join(folder.path, "one"));
    const { port } = new URL(first.url);
    const settings = {
      PARLEY_PORT: port,
      PARLEY_MESH_PORT: "0",
      PARLEY_DATA: join(folder.path, "two"),
    };
    const { code, output } = await ServerProcess.run(settings);
    assert.equal(code, 1);
    assert.match(output, /EADDRINUSE.*Choose another port with PARLEY_PORT/);
    const second = await ServerProcess.start(settings.PARLEY_DATA);
    await Promise.all([first, second].map((one) => one.end("SIGTERM")));
    await folder.remove();
  });

  it("stops on SIGTERM: says goodbye to clients, keeps what it acked, ends with code 0", async () => {
    const folder = await newFolder();
    const server = await ServerProcess.start(folder.path, { PARLEY_DRAIN_MS: "200" });
    const start = () =>
      Promise.resolve({
        url: server.url,
        urls: [server.url],
        meshUrls: () => [server.meshUrl],
        restart: () => Promise.reject(new Error("not this one")),
        close: () => Promise.resolve(),
      });
    const town = await Town.start(start);
    const [alice, bob] = [await town.onSocket("alice"), await town.onConnect("bob")];
    await alice.send(textTo("bob", "hello"));
    const [ended] = await Promise.all([server.end("SIGTERM"), alice.socket.closed, bob.ended]);
    assert.deepEqual([ended.code, ended.signal], [0, null], ended.output);
    const { code } = await alice.socket.closed;
    assert.equal(code, 4_001);
    await bob.inbox.until("a goodbye", ({ goodbye }) => goodbye).catch(() => undefined);
    assert.ok(bob.inbox.goodbye !== undefined || (await bob.ended) !== undefined);

    const again = await ServerProcess.start(folder.path);
    const ready = await asked(5_000, "ready", async () => {
      const { status } = await fetch(`${again.url}/readyz`);
      return status === 200 ? status : undefined;
    });
    assert.equal(ready, 200);
    await again.end("SIGTERM");
    await folder.remove();
  });
});
