/** The simulator finds every planted fault: a promise is broken with it, and by the same seed and harm none is without it. */
import assert from "node:assert/strict";
import { reportOf } from "../../support/checker.ts";
import { run } from "../run.ts";
import { type Harm, plantedIn } from "./harm.ts";
import { planted } from "./list.ts";

/** Runs that have no fault, by harm and seed: several faults share one. */
const sound = new Map<Harm, Map<number, Promise<string>>>();

function soundRun(harm: Harm, seed: number): Promise<string> {
  const seeds = sound.get(harm) ?? new Map<number, Promise<string>>();
  sound.set(harm, seeds);
  const known =
    seeds.get(seed) ??
    run({ scenario: plantedIn(seed, harm, {}) }).then(({ findings }) => reportOf(findings));
  seeds.set(seed, known);
  return known;
}

const nothingWrong = reportOf([]);

describe("a simulated world with a planted fault", function () {
  this.timeout(900_000);
  const rows: string[] = [];

  after(() => {
    console.log(["", "planted fault | seed | breaks", ...rows].join("\n"));
  });

  for (const { what, patch, harm, within } of planted)
    it(`is found out within ${within} seeds: ${what}`, async () => {
      for (let seed = 1; seed <= within; seed += 1) {
        const { findings } = await run({ scenario: plantedIn(seed, harm, patch) });
        if (findings.length === 0 || (await soundRun(harm, seed)) !== nothingWrong) continue;
        const broken = [...new Set(findings.map(({ promise }) => promise))].toSorted();
        rows.push(`${what} | ${seed} | ${broken.join(" ")}`);
        return;
      }
      assert.fail(`no seed up to ${within} breaks a promise by it alone`);
    });
});
