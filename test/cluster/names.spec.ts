/** Two gateways that are configured with one id: one of them serves, the other waits and says why. */
import assert from "node:assert/strict";
import type { Directory } from "../../mesh/directory.ts";
import { asked } from "../support/within.ts";
import { directoryOf, newCluster, notReady } from "./ground.ts";
import type { OwnCluster } from "./ground.ts";

/** The lease, and a little more. */
const replacedMs = 15_000;

describe("two gateways with one id", () => {
  let own: OwnCluster;
  let directory: Directory;

  before(async () => {
    own = await newCluster({
      counts: { gateway: 1, session: 1, delivery: 1, presence: 1, storage: 1 },
      settings: { "gateway-1": { PARLEY_GATEWAY_ID: "gateway-0" } },
    });
    directory = await directoryOf(own.cluster);
  });
  after(async () => {
    await directory?.close();
    await own?.close("SIGKILL");
  });

  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    it(`are not both announced: the second waits, says so, and takes over after ${signal} of the first`, async function () {
      this.timeout(120_000);
      const { cluster } = own;
      const [first, second] =
        signal === "SIGTERM" ? ["gateway-0", "gateway-1"] : ["gateway-1", "gateway-0"];
      const { id } = cluster.process(first);
      await cluster.start(second);
      const body = await notReady(cluster, second, /another gateway is called gateway-0/, 10_000);
      assert.match(body, /it waits until that one is gone/);
      assert.equal((await cluster.readiness(first)).status, 200);
      const gateways = directory.instances("gateway");
      assert.deepEqual(
        gateways.present.map((one) => one.id),
        [id],
      );
      await cluster.end(first, signal);
      await cluster.ready(second, replacedMs);
      await asked(5_000, "the second alone", () =>
        Promise.resolve(
          gateways.present.length === 1 && gateways.present[0]?.id !== id ? true : undefined,
        ),
      );
    });
  }
});
