/** `npm run fuzz`: the edge under inputs that nobody should send; exit code 1 where something was found. */
import { Command, InvalidArgumentError } from "commander";
import { flatBytes, runFuzz } from "./run.ts";

function whole(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("It must be a whole number.");
  return Number(text);
}

const command = new Command("fuzz")
  .description("Sends spoilt inputs of all kinds to the edge of a Parley in a process of its own.")
  .option("--inputs <number>", "how many", whole, 100_000)
  .option("--seed <number>", "the same inputs for the same seed", whole)
  .option("--only <number>", "only the input with this number, of this seed", whole)
  .parse();
const {
  inputs,
  only,
  seed = Math.floor(Math.random() * 1e9),
} = command.opts<{
  inputs: number;
  seed?: number;
  only?: number;
}>();

const beganMs = performance.now();
const say = (line: string): void =>
  console.log(`${((performance.now() - beganMs) / 1_000).toFixed(0)} s: ${line}`);
console.log(`fuzz: ${inputs} inputs, --seed ${seed}`);
const report = await runFuzz({ inputs, seed, say, ...(only === undefined ? {} : { only }) });
const done = Object.values(report.counts).reduce((sum, count) => sum + count, 0);
const mebibytes = (bytes: number): string => `${(bytes / 1_048_576).toFixed(1)} MiB`;
const counts = Object.entries(report.counts).map(([kind, count]) => `${kind} ${count}`);
say(`${done} inputs (${counts.join(", ")}), ${(done / report.seconds).toFixed(0)} a second`);
say(`${report.witnessed} messages between healthy devices`);
say(
  `memory after a fifth ${mebibytes(report.earlyBytes)}, at the end ${mebibytes(report.lateBytes)}, at most ${mebibytes(flatBytes(report.earlyBytes))}`,
);
for (const finding of report.findings) console.log(finding);
if (report.findings.length > 0) {
  console.log(`again: npm run fuzz -- --seed ${seed} --only NUMBER, or all: --inputs ${inputs}`);
  process.exitCode = 1;
}
