/** The simulator finds every planted fault: a promise is broken with it, and with the same seed and harm none is without it. */
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

describe("a simulated world with a planted fault", function () {
  this.timeout(60_000);
  const rows: string[] = [];

  after(() => console.log(["", "planted fault | seed | breaks", ...rows].join("\n")));

  for (const { what, patch, harm, seed } of planted)
    it(`is found out: ${what}`, async () => {
      const { findings } = await run({ scenario: plantedIn(seed, harm, patch) });
      const broken = [...new Set(findings.map(({ promise }) => promise))].toSorted();
      rows.push(`${what} | ${seed} | ${broken.join(" ")}`);
      assert(findings.length > 0, `seed ${seed} breaks nothing`);
      assert.equal(await soundRun(harm, seed), "nothing is wrong");
    });
});
