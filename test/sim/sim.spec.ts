import assert from "node:assert/strict";
import { reportOf } from "../support/checker.ts";
import { run } from "./run.ts";
import { scenarioOf } from "./scenario.ts";
import { Threads } from "./threads.ts";

const seeds = 300;
/** In one test: so that none takes longer than a test may. */
const atOnce = 30;
const steps = 24;

describe("a simulated, hostile world (P1 P2 P3 P4 P5 P6 P7 P8 P9 P10)", () => {
  it("has the same history for the same seed, byte for byte", async () => {
    const twice = [];
    for (let n = 0; n < 2; n += 1) {
      const lines: string[] = [];
      const scenario = scenarioOf(7, { steps });
      const { digest } = await run({ scenario, trace: (line) => lines.push(line) });
      twice.push({ digest, lines });
    }
    const [one, other] = twice;
    assert.deepEqual(one, other);
    assert((one?.lines.length ?? 0) > 100);
  });

  it("has one in a wide world, too, and keeps the promises", async function () {
    this.timeout(180_000);
    const scenario = scenarioOf(2, { steps, world: "wide" });
    const [one, other] = [await run({ scenario }), await run({ scenario })];
    assert.equal(reportOf(one.findings), reportOf([]));
    assert.equal(one.digest, other.digest);
    assert(one.acts.size > 1);
  });

  it("refuses the platform's time and chance while it runs", async () => {
    const scenario = scenarioOf(7, { steps });
    const asks = [
      () => Date.now(),
      () => new Date(),
      () => Math.random(),
      () => setImmediate(() => undefined),
      () => setInterval(() => undefined, 1),
    ];
    for (const ask of asks) {
      let asked = false;
      const trace = (): void => {
        if (asked) return;
        asked = true;
        ask();
      };
      await assert.rejects(run({ scenario, trace }), /time and chance are parameters/);
    }
  });

  describe("over many seeds", () => {
    let threads: Threads;
    before(() => {
      threads = new Threads();
    });
    after(() => threads.end());

    for (let from = 1; from <= seeds; from += atOnce)
      it(`keeps the promises: seeds ${from} to ${from + atOnce - 1}`, async function () {
        this.timeout(180_000);
        const asked = Array.from({ length: atOnce }, (_, at) => ({ seed: from + at, steps }));
        const broken = await threads.run(asked);
        const told = broken.map(
          ({ seed, broke = "" }) => `npm run sim -- --seed ${seed} --steps ${steps}\n${broke}`,
        );
        assert.equal(broken.length, 0, told.join("\n"));
      });
  });
});
