/** `npm run sim`: replays a seed, or runs as many as the time allows. */
import { run } from "./run.ts";

const seed = Number(process.argv[2] ?? 1);
const count = Number(process.argv[3] ?? 1);
const trace = process.argv.includes("--trace") ? (line: string) => console.log(line) : undefined;
const begun = performance.now();
for (let n = 0; n < count; n += 1) {
  const result = await run({
    seed: seed + n,
    ...(trace === undefined ? {} : { trace, log: trace }),
  });
  console.log(
    result.seed,
    result.digest.slice(0, 12),
    result.events,
    result.acked,
    result.findings.length,
  );
}
const { user, system } = process.cpuUsage();
console.log(
  `${(performance.now() - begun) / count} ms a seed, ${(user + system) / 1_000 / count} of CPU`,
);
