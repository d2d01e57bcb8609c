/** The load as it runs against a cluster, on one process: it writes as fast as it says, sees everything, and counts what fails. */
import assert from "node:assert/strict";
import { check, reportOf } from "./checker.ts";
import { Load } from "./load.ts";
import { modes } from "./parley.ts";
import { Proxy } from "./proxy.ts";
import { asked } from "./within.ts";

const [[, start] = []] = modes.entries();

describe("load", () => {
  it("P1 P2 P3 P4 P5 P7: hundreds a second, connections cut meanwhile, and nothing is wrong", async function () {
    this.timeout(60_000);
    assert.ok(start);
    const parley = await start();
    const { hostname: host, port } = new URL(parley.url);
    const proxy = await Proxy.open([{ host, port: Number(port) }]);
    const load = await Load.begin({ urls: [parley.url, proxy.url], perSecond: 300, users: 8 });
    try {
      await load.watch();
      load.start();
      await load.more(150, 30_000);
      proxy.cut();
      await load.more(150, 30_000);
      assert.ok((await load.probe(10_000)) > 0);
      await load.more(150, 30_000);
      const numbers = await load.stop();
      assert.equal(numbers.failed, 0);
      assert.equal(numbers.acked, numbers.sent);
      assert.ok(numbers.perSecond > 100, `${numbers.perSecond} a second`);
      assert.deepEqual(load.falselyOffline, [], "P7");
      const observed = await load.observed();
      assert.ok(observed.devices.every(({ records }) => records.size > 0));
      assert.ok(observed.devices.some(({ cursors }) => cursors.length > 0));
      const findings = check(observed);
      assert.deepEqual(findings, [], reportOf(findings));
      // It is there to find: take one acked message away from a history.
      const [first] = observed.histories;
      assert.ok(first);
      const histories = [{ ...first, records: first.records.slice(0, -1) }];
      assert.match(
        reportOf(check({ ...observed, histories: [...histories, ...observed.histories.slice(1)] })),
        /broken: P1: /,
      );
    } finally {
      await load.close();
      await proxy.close();
      await parley.close();
    }
  });

  it("counts the sends that fail, and says which conversations were not reached in time", async () => {
    assert.ok(start);
    const parley = await start();
    const load = await Load.begin({ urls: [parley.url], users: 3, groups: 0 });
    try {
      for (const { client } of load.devices) client.disconnect();
      await assert.rejects(
        load.probe(50),
        /3 of 3 were not acked: load1\/desk into d:load0:load1, /,
      );
      await load.close();
      load.start();
      await asked(10_000, "a send that fails", () =>
        Promise.resolve(load.numbers.failed > 0 ? true : undefined),
      );
      assert.equal(load.numbers.acked, 0);
    } finally {
      await load.close();
      await parley.close();
    }
  });
});
