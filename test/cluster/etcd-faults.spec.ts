/** etcd of three members under a cluster that is at work: its leader is killed, then all of it is gone for a minute, then it is back. */
import assert from "node:assert/strict";
import { LoadDevice } from "../support/load.ts";
import type { Proxy } from "../support/proxy.ts";
import { network, newCluster, sharedGround } from "./ground.ts";
import type { Ground, OwnCluster } from "./ground.ts";
import { Etcd } from "./servers/etcd.ts";
import { Storm, balancerOf } from "./storm.ts";

const addresses = [11, 12, 13].map((last) => `${network}.0.${last}`);
const awayMs = 60_000;
/** Within so long after etcd's own return a process that dies is replaced. */
const placedAgainMs = 30_000;

describe("etcd with three members", () => {
  let ground: Ground;
  let own: OwnCluster;
  let balancer: Proxy;

  before(async () => {
    const { cassandra } = await sharedGround();
    ground = { etcd: await Etcd.start(addresses), cassandra };
    own = await newCluster({}, ground);
    balancer = await balancerOf(own.cluster);
  });
  after(async () => {
    await balancer?.close();
    await own?.close("SIGKILL");
    if (ground !== undefined) await ground.etcd.remove();
  });

  it("P1 P2 P3 P4 P5 P6 P7 P10: its leader is killed, and comes back", async function () {
    this.timeout(240_000);
    const storm = await Storm.over([balancer.url], "leader");
    try {
      const leader = await ground.etcd.leader();
      await ground.etcd.kill(leader);
      await storm.isBack("the leader's end");
      assert.equal(own.cluster.processes.size, own.cluster.names.length, "nobody died of it");
      // Longer than the lease: who was not heard by the new leader is gone by now.
      await new Promise<void>((go) => setTimeout(go, 6_000));
      await storm.isBack("6 s more");
      await ground.etcd.start(leader);
      await storm.end();
    } finally {
      await storm.load.close();
    }
  });

  it("P1 P2 P3 P4 P5 P6 P7 P10: all of it is away for a minute: chat goes on; then the dead are replaced again", async function () {
    this.timeout(360_000);
    const { cluster } = own;
    const storm = await Storm.over([balancer.url], "away");
    const newcomer = new LoadDevice(balancer.url, "away-newcomer", "phone");
    try {
      await ground.etcd.killAll();
      const goneMs = performance.now();
      for (let part = 1; part <= 4; part += 1) {
        const untilMs = goneMs + (part * awayMs) / 4;
        await new Promise<void>((go) => setTimeout(go, untilMs - performance.now()));
        await storm.isBack(`${part * 15} s without etcd`);
      }
      await newcomer.connect();
      await newcomer.client.send({ user: "away0" }, "I came meanwhile").sent;
      for (const name of cluster.names)
        assert.equal((await cluster.readiness(name)).status, 200, `${name} is ready`);

      await ground.etcd.startAll();
      await storm.isBack("the return of etcd");
      await new Promise<void>((go) => setTimeout(go, placedAgainMs - 10_000));
      await cluster.end("delivery-0", "SIGKILL");
      await storm.isBack("the end of a delivery process afterwards");
      await cluster.start("delivery-0");
      await cluster.ready("delivery-0");
      await storm.end();
    } finally {
      await newcomer.client.close();
      await storm.load.close();
    }
  });
});
