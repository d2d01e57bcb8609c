/** What operators have: gRPC with reflection and health on the mesh port, health over HTTP, settings that are told when they are wrong. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { modes, newFolder } from "../support/parley.ts";
import { ServerProcess } from "../support/server-process.ts";
import { Town, textTo } from "../support/town.ts";
import { root } from "../support/tree.ts";
import { asked } from "../support/within.ts";

const run = promisify(execFile);
const buf = join(root, "node_modules", ".bin", "buf");

/** A call of every service that changes nothing, and what its answer says. */
const calls: Readonly<Record<string, [method: string, request: object, answer: RegExp]>> = {
  "parley.gateway.v1.GatewayService": ["ListConnections", {}, /"userId":\s*"alice"/],
  "parley.session.v1.SessionService": [
    "ListSessions",
    { userId: "alice" },
    /"deviceId":\s*"phone"/,
  ],
  "parley.delivery.v1.DeliveryService": [
    "CreateGroup",
    {
      userId: "alice",
      request: { clientId: "c2l4dGVlbiBieXRlcyAhIQ==", title: "friends", memberIds: ["bob"] },
    },
    /"title":\s*"friends"/,
  ],
  "parley.presence.v1.PresenceService": [
    "GetPresences",
    { userIds: ["alice"] },
    /AVAILABILITY_ONLINE/,
  ],
  "parley.storage.v1.StorageService": ["ListIndex", { userId: "alice" }, /"d:alice:bob"/],
};

for (const [mode, start] of Object.entries(modes)) {
  describe(`operators, ${mode}`, () => {
    let town: Town;
    before(async () => {
      town = await Town.start(start);
    });
    after(() => town.close());

    const curl = async (...args: string[]): Promise<string> => {
      const all = ["curl", "--protocol", "grpc", "--http2-prior-knowledge", ...args];
      return (await run(buf, all, { cwd: root, timeout: 15_000 })).stdout;
    };

    it("list the five services, describe them and call each, by reflection alone", async function () {
      this.timeout(60_000);
      const alice = await town.onSocket("alice");
      await alice.send(textTo("bob", "hello"));
      const services = (await curl("--list-services", town.meshUrl)).trim().split("\n").toSorted();
      for (const service of [...Object.keys(calls), "grpc.health.v1.Health"])
        assert.ok(services.includes(service), `${service} is not in ${services.join(", ")}`);
      const methods = await curl("--list-methods", town.meshUrl);
      for (const [service, [method, request, answer]] of Object.entries(calls)) {
        assert.ok(methods.includes(`${service}/${method}`), methods);
        const said = await curl(
          "--data",
          JSON.stringify(request),
          `${town.meshUrl}/${service}/${method}`,
        );
        assert.match(said, answer, service);
      }
      const health = await curl("--data", "{}", `${town.meshUrl}/grpc.health.v1.Health/Check`);
      assert.match(health, /"status":\s*"SERVING"/);
      const one = { service: "parley.storage.v1.StorageService" };
      const storage = `${town.meshUrl}/grpc.health.v1.Health/Check`;
      assert.match(await curl("--data", JSON.stringify(one), storage), /SERVING/);
      await town.leave();
    });

    it("see by HTTP that it lives and that it is ready", async () => {
      for (const [path, said] of [
        ["/healthz", "ok\n"],
        ["/readyz", "ready\n"],
      ] as const) {
        const response = await fetch(town.url + path);
        assert.deepEqual([response.status, await response.text()], [200, said]);
      }
      assert.equal((await fetch(`${town.url}/nothing`)).status, 404);
    });
  });
}

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
        meshUrl: server.meshUrl,
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
