/** What operators have: gRPC with reflection and health on the mesh port, health over HTTP. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { modes } from "../support/parley.ts";
import { Town, textTo } from "../support/town.ts";
import { root } from "../support/tree.ts";

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

for (const [mode, start] of modes.entries()) {
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

    /** What the processes of a service answer, those that cannot do it left out. */
    const answers = async (service: string, method: string, request: object): Promise<string> => {
      const data = ["--data", JSON.stringify(request)];
      const said = await Promise.allSettled(
        town.meshUrls(service).map((url) => curl(...data, `${url}/${method}`)),
      );
      return said
        .map((one) => (one.status === "fulfilled" ? one.value : String(one.reason)))
        .join();
    };

    it("list the five services, describe them and call each, by reflection alone", async function () {
      this.timeout(120_000);
      const alice = await town.onSocket("alice");
      await alice.send(textTo("bob", "hello"));
      for (const [service, [method, request, answer]] of Object.entries(calls)) {
        for (const url of town.meshUrls(service)) {
          const services = (await curl("--list-services", url)).trim().split("\n");
          for (const one of [service, "grpc.health.v1.Health"])
            assert.ok(services.includes(one), `${one} is not in ${services.join(", ")}`);
          const methods = await curl("--list-methods", url);
          assert.ok(methods.includes(`${service}/${method}`), methods);
        }
        assert.match(await answers(service, `${service}/${method}`, request), answer, service);
        for (const whole of [{}, { service }])
          assert.match(
            await answers(service, "grpc.health.v1.Health/Check", whole),
            /"status":\s*"SERVING"/,
          );
      }
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
