/** A delivery process that stands still for a minute while another takes its conversations over, and then wakes as if nothing had been. */
import assert from "node:assert/strict";
import type { Directory } from "../../mesh/directory.ts";
import type { Proxy } from "../support/proxy.ts";
import { asked } from "../support/within.ts";
import { directoryOf, newCluster } from "./ground.ts";
import type { OwnCluster } from "./ground.ts";
import { Storm, balancerOf } from "./storm.ts";

const pauseMs = 60_000;
const wakeMs = 20_000;

describe("a delivery process that is stopped by SIGSTOP", () => {
  let own: OwnCluster;
  let balancer: Proxy;
  let directory: Directory;

  before(async () => {
    own = await newCluster();
    balancer = await balancerOf(own.cluster);
    directory = await directoryOf(own.cluster);
  });
  after(async () => {
    await directory?.close();
    await balancer?.close();
    await own?.close("SIGKILL");
  });

  const owned = (incarnation: string): number =>
    Array.from({ length: directory.shards.count }, (_, at) => directory.shards.owner(at)).filter(
      (owner) => owner?.incarnation === incarnation,
    ).length;

  it("P1 P2 P3 P4 P5 P7: acks nothing and loses nothing after a minute, and serves again under a new id", async function () {
    this.timeout(300_000);
    const { cluster } = own;
    const { id, mesh } = cluster.process("delivery-0");
    const deliveries = directory.instances("delivery");
    const storm = await Storm.over([balancer.url], "paused");
    try {
      assert.ok(owned(id) > 0, "it had shards");
      cluster.pause("delivery-0");
      const pausedMs = performance.now();
      await storm.isBack("the pause");
      assert.ok(!deliveries.present.some((one) => one.id === id), "its lease ended");
      assert.equal(owned(id), 0, "its shards went");
      const leftMs = pauseMs - (performance.now() - pausedMs);
      await new Promise<void>((go) => setTimeout(go, leftMs));

      cluster.resume("delivery-0");
      const newcomer = await asked(wakeMs, "another life of delivery-0", () =>
        Promise.resolve(deliveries.present.find((one) => one.id !== id && one.address === mesh)),
      );
      const shards = await asked(wakeMs, "shards for it", () =>
        Promise.resolve(owned(newcomer.id) || undefined),
      );
      storm.note(`it took ${shards} shards under a new id at first`);
      await cluster.ready("delivery-0");
      assert.equal(owned(id), 0, "nothing belongs to the life that was");
      await storm.isBack("the wake");
      await storm.end();
    } finally {
      await storm.load.close();
    }
  });
});
