/** Looks for the least harm that still breaks a promise: leaves faults out, half of them at a time, then one by one. */
import type { Finding } from "../support/checker.ts";
import type { Fault } from "./faults.ts";
import { run } from "./run.ts";
import type { Scenario } from "./scenario.ts";

export interface Shrunk {
  readonly faults: readonly Fault[];
  readonly findings: readonly Finding[];
  readonly runs: number;
}

/** A run that ends in an error is as good as a finding. */
export async function findingsOf(
  scenario: Scenario,
  faults: readonly Fault[],
): Promise<readonly Finding[]> {
  try {
    return (await run({ scenario, faults })).findings;
  } catch (error) {
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return [{ promise: "P9", what }];
  }
}

/** The first finding's promise is what must stay broken. */
export async function shrink(
  scenario: Scenario,
  found: readonly Finding[],
  runsMax: number,
): Promise<Shrunk> {
  const promise = found[0]?.promise;
  let best: Omit<Shrunk, "runs"> = { faults: scenario.faults, findings: found };
  let runs = 0;
  const breaks = async (faults: readonly Fault[]): Promise<boolean> => {
    if (runs >= runsMax) return false;
    runs += 1;
    const findings = await findingsOf(scenario, faults);
    if (!findings.some((one) => one.promise === promise)) return false;
    best = { faults, findings };
    return true;
  };
  for (let size = Math.ceil(best.faults.length / 2); size >= 1;) {
    let dropped = false;
    for (let at = 0; at < best.faults.length && !dropped; at += size)
      dropped = await breaks([...best.faults.slice(0, at), ...best.faults.slice(at + size)]);
    if (!dropped && size === 1) break;
    if (!dropped || size > best.faults.length) size = Math.max(1, Math.floor(size / 2));
  }
  // The same harm for a shorter time.
  for (const [at, fault] of best.faults.entries()) {
    if (fault.forMs <= 1_000) continue;
    await breaks(best.faults.map((one, n) => (n === at ? { ...fault, forMs: 1_000 } : one)));
  }
  return { ...best, runs };
}
