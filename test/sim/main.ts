/** `npm run sim`: replays a seed, or runs as many as the time allows. */
import { scenarioOf } from "./scenario.ts";
import { named, run } from "./run.ts";
import { reportOf } from "../support/checker.ts";

const seed = Number(process.argv[2] ?? 1);
const count = Number(process.argv[3] ?? 1);
const trace = process.argv.includes("--trace") ? (line: string) => console.log(line) : undefined;
const begun = performance.now();
for (let n = 0; n < count; n += 1) {
  const scenario = scenarioOf(seed + n);
  const result = await run({ scenario, ...(trace === undefined ? {} : { trace, log: trace }) });
  console.log(
    result.seed,
    result.digest.slice(0, 12),
    result.events,
    Math.round(result.virtualMs / 1000),
    result.acked,
    [...result.injected].map(([kind, n]) => `${kind} ${n}`).join(", "),
  );
  if (result.findings.length > 0) {
    console.log(scenario.faults.map(named).join("\n"));
    console.log(reportOf(result.findings));
  }
}
const { user, system } = process.cpuUsage();
console.log(
  `${(performance.now() - begun) / count} ms a seed, ${(user + system) / 1_000 / count} of CPU`,
);
