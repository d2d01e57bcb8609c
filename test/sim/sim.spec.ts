import assert from "node:assert/strict";
import { reportOf } from "../support/checker.ts";
import { run } from "./run.ts";
import { scenarioOf } from "./scenario.ts";

const seeds = 200;
/** In one test: so that none takes longer than a test may. */
const atOnce = 20;
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

  for (let from = 1; from <= seeds; from += atOnce)
    it(`keeps the promises: seeds ${from} to ${from + atOnce - 1}`, async function () {
      this.timeout(60_000);
      for (let seed = from; seed < from + atOnce; seed += 1) {
        const { findings } = await run({ scenario: scenarioOf(seed, { steps }) });
        const again = `npm run sim -- --seed ${seed} --steps ${steps}`;
        assert.equal(findings.length, 0, `${again}\n${reportOf(findings)}`);
      }
    });
});
