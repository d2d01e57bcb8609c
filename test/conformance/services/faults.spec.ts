/** Each contract is seen to fail on a service that does not keep to it. */
import assert from "node:assert/strict";
import { within } from "../../support/within.ts";
import { contracts } from "./contracts.ts";
import { faults } from "./faults.ts";
import { Ground } from "./ground.ts";
import { startOwn } from "./own.ts";

const host = `${process.env["TEST_NETWORK"] ?? "127.50"}.9.2`;
/** What never comes is waited for no longer than that: where nothing is wrong it comes sooner. */
const foundMs = 12_000;

describe("a contract finds that", function () {
  this.timeout(180_000);

  for (const { service, what, breaks, settings, ...otherwise } of faults)
    it(`a ${service} ${what}`, async () => {
      const contract = contracts[service];
      const title = contract.titles.find((one) => one.startsWith(breaks));
      assert.ok(title !== undefined, breaks);
      const ground = await Ground.open(host, 0);
      const played = await contract.play(ground);
      const running = await startOwn(
        service,
        ground,
        { ...contract.settings, ...settings },
        otherwise,
      );
      try {
        await played.meet(running.mesh, `http://${running.front}`);
        await assert.rejects(within(foundMs, title, played.run(title)));
      } finally {
        await running.stop();
        await played.close();
        await ground.close();
      }
    });
});
