/** Processes whose clocks are an hour or two apart: nothing that is promised rests on a clock. Only Date is shifted, as by a wrong clock; what counts the time that passes is not. */
import assert from "node:assert/strict";
import type { Settings } from "../support/parley.ts";
import type { Proxy } from "../support/proxy.ts";
import { newCluster } from "./ground.ts";
import type { OwnCluster } from "./ground.ts";
import { Storm, balancerOf } from "./storm.ts";

const hourMs = 3_600_000;

/** Loaded into a process before anything else. */
function shifted(ms: number): Settings {
  const code = `const Real = Date;
    globalThis.Date = class Date extends Real {
      constructor(...given) { given.length === 0 ? super(Real.now() + ${ms}) : super(...given); }
      static now() { return Real.now() + ${ms}; }
    };`;
  return { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}` };
}

describe("clocks an hour apart", () => {
  let own: OwnCluster;
  let balancer: Proxy;

  before(async function () {
    this.timeout(240_000);
    own = await newCluster({
      settings: {
        // Of two neighbours each pair is an hour or two apart, but for the right ones.
        "storage-1": shifted(hourMs),
        "session-1": shifted(-hourMs),
        "presence-1": shifted(hourMs),
        "delivery-1": shifted(-hourMs),
        "gateway-1": shifted(hourMs),
      },
    });
    balancer = await balancerOf(own.cluster);
  });
  after(async function () {
    this.timeout(120_000);
    await balancer?.close();
    await own?.close("SIGKILL");
  });

  it("P1 P2 P3 P4 P5 P6 P7: harm nobody, also where what one wrote is written on by the other, and back", async function () {
    this.timeout(300_000);
    const { cluster } = own;
    const storm = await Storm.over([balancer.url], "clocks", { perSecond: 200 });
    let [earliestMs, latestMs] = [Infinity, 0];
    for (const { client } of storm.load.devices) {
      client.on("record", ({ record }) => {
        earliestMs = Math.min(earliestMs, Number(record.timeMs));
        latestMs = Math.max(latestMs, Number(record.timeMs));
      });
    }
    try {
      await storm.more(1_000);
      assert.ok(latestMs - earliestMs > hourMs / 2, "messages have times of both clocks");
      await cluster.restart("delivery-0", "SIGKILL");
      await storm.isBack("the clock that is right went, and came back");
      await storm.more(500);
      await cluster.restart("delivery-1");
      await cluster.restart("storage-0");
      await storm.isBack("those that are wrong had it all");
      await storm.end();
    } finally {
      await storm.load.close();
    }
  });
});
