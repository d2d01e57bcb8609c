/** Every process ends by SIGTERM and starts again, one after the other, under load: apps do not see it. */
import assert from "node:assert/strict";
import type { Proxy } from "../support/proxy.ts";
import { newCluster } from "./ground.ts";
import type { OwnCluster } from "./ground.ts";
import { Storm, balancerOf } from "./storm.ts";

describe("rolling restart under load", () => {
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

  it("P1 P2 P3 P4 P5 P6 P7: of all processes: not one failed send", async function () {
    this.timeout(600_000);
    const { cluster } = own;
    const storm = await Storm.over([balancer.url], "rolling");
    try {
      const startMs = performance.now();
      for (const name of cluster.names) {
        const { code, signal } = await cluster.end(name);
        assert.deepEqual([code, signal], [0, null], `${name}: ${await cluster.log(name)}`);
        await cluster.start(name);
        await cluster.ready(name);
        await storm.more(500);
      }
      storm.note(`all in ${Math.round((performance.now() - startMs) / 1_000)} s`);
      await storm.end();
    } finally {
      await storm.load.close();
    }
  });
});
