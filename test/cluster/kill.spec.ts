/** kill -9 of each kind of process under load, one at a time. */
import assert from "node:assert/strict";
import { serviceNames } from "../../mesh/directory.ts";
import { LoadDevice } from "../support/load.ts";
import type { Proxy } from "../support/proxy.ts";
import { newCluster } from "./ground.ts";
import type { OwnCluster } from "./ground.ts";
import { Storm, balancerOf } from "./storm.ts";

/** The lease of a gateway, the grace of presence, and the 10 s within which the service is back. */
const offlineMs = 5_000 + 10_000 + 10_000;
const onlineMs = 10_000;

describe("kill -9 under load", () => {
  let own: OwnCluster;
  let balancer: Proxy;

  before(async () => {
    own = await newCluster();
    balancer = await balancerOf(own.cluster);
  });
  after(async () => {
    await balancer?.close();
    await own?.close("SIGKILL");
  });

  for (const service of serviceNames) {
    it(`P1 P2 P3 P4 P5 P6 P7: of a ${service}`, async function () {
      this.timeout(240_000);
      const { cluster } = own;
      const name = `${service}-0`;
      const storm = await Storm.over([balancer.url], service);
      /** Somebody at the gateway that is killed, or who leaves when it is another process; and a friend. */
      const ghost = new LoadDevice(cluster.process("gateway-0").url, `${service}-ghost`, "phone");
      const friend = new LoadDevice(balancer.url, `${service}-friend`, "phone");
      try {
        await Promise.all([ghost.connect(), friend.connect()]);
        await ghost.client.send({ user: friend.userId }, "I am here").sent;
        await friend.watch([ghost.userId]);
        await friend.told(ghost.userId, true, onlineMs);

        await cluster.end(name, "SIGKILL");
        const killedMs = performance.now();
        ghost.client.disconnect();
        await storm.isBack(`the end of ${name}`);
        const toldMs = await friend.told(
          ghost.userId,
          false,
          offlineMs - (performance.now() - killedMs),
        );
        storm.note(`offline told after ${Math.round(toldMs - killedMs)} ms`);

        await cluster.start(name);
        await cluster.ready(name);
        await ghost.connect();
        await friend.told(ghost.userId, true, onlineMs);
        assert.deepEqual(
          friend.offlineAtMs.map(({ userId }) => userId),
          [ghost.userId],
          "P7: told once",
        );
        await storm.end();
      } finally {
        await storm.load.close();
        await Promise.all([ghost, friend].map(({ client }) => client.close()));
      }
    });
  }
});
