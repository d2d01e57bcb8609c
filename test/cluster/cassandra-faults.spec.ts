/** Cassandra of three nodes under a cluster that is at work: one is killed, and comes back. */
import type { Proxy } from "../support/proxy.ts";
import { newCluster, sharedGround, sharedNodes } from "./ground.ts";
import type { Ground, OwnCluster } from "./ground.ts";
import { Storm, balancerOf } from "./storm.ts";

describe("Cassandra with three nodes", () => {
  let ground: Ground;
  let own: OwnCluster;
  let balancer: Proxy;

  before(async function () {
    this.timeout(600_000);
    const { etcd } = await sharedGround();
    ground = { etcd, cassandra: await sharedNodes() };
    own = await newCluster({ replication: 3 }, ground);
    balancer = await balancerOf(own.cluster);
  });
  after(async function () {
    this.timeout(120_000);
    await balancer?.close();
    await own?.close("SIGKILL");
  });

  it("P1 P2 P3 P4 P5 P6 P7: one is killed, and comes back", async function () {
    this.timeout(600_000);
    // Three nodes and ten processes share this machine: the promise is not how many a second.
    const storm = await Storm.over([balancer.url], "node");
    try {
      await ground.cassandra.end(2, "KILL");
      await storm.isBack("the node's end");
      await storm.more(2_000);
      await storm.isBack("2,000 messages more");
      await ground.cassandra.start(2);
      await storm.isBack("the node's return");
      await storm.more(2_000);
      await storm.end();
    } finally {
      await storm.load.close();
    }
  });
});
