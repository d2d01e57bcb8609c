/** `npm run sim`: replays a seed, or runs as many seeds as the time or the count allows, and says what was found. */
import { Command, InvalidArgumentError, Option } from "commander";
import { type Finding, type PromiseId, reportOf } from "../support/checker.ts";
import type { ActKind } from "./acts.ts";
import { coverageOf, startCoverage } from "./coverage.ts";
import { type FaultKind, isFaultKind, named } from "./faults.ts";
import { run } from "./run.ts";
import { scenarioOf, type StoreKind, stores, type WorldKind, worlds } from "./scenario.ts";
import { shrink } from "./shrink.ts";
import { inWorkers } from "./workers.ts";

interface Flags {
  readonly seed: number;
  readonly count?: number;
  readonly minutes?: number;
  readonly steps: number;
  readonly kinds?: FaultKind[];
  readonly store?: StoreKind;
  readonly world: WorldKind;
  readonly trace?: boolean;
  readonly log?: boolean;
  readonly coverage?: boolean;
  readonly shrink: boolean;
  readonly workers: number;
}

const progressMs = 10_000;
const shrinkRunsMax = 60;

function whole(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0)
    throw new InvalidArgumentError("It must be a whole number.");
  return value;
}

function kindsOf(text: string): FaultKind[] {
  const kinds = text.split(",");
  const known = kinds.filter(isFaultKind);
  if (known.length < kinds.length)
    throw new InvalidArgumentError("One of them is no kind of fault.");
  return known;
}

const command = new Command("sim")
  .description("Runs the services in a simulated, hostile world and checks the promises.")
  .option("--seed <n>", "the seed, or the first of them", whole, 1)
  .option("--count <n>", "so many seeds", whole)
  .option("--minutes <n>", "as many seeds as fit", Number)
  .option("--steps <n>", "how much people do in one run", whole, 60)
  .option("--kinds <list>", "no other faults but these, comma-separated", kindsOf)
  .addOption(new Option("--store <kind>", "no other store but this").choices(stores))
  .addOption(
    new Option("--world <kind>", "devices have WebSockets alone, or all ways that there are")
      .choices(worlds)
      .default("narrow"),
  )
  .option("--trace", "prints everything that devices see and that is done to the world")
  .option("--log", "prints what processes log, too")
  .option("--coverage", "tells which branches of the services were taken")
  .option("--workers <n>", "so many processes share the seeds", whole, 1)
  .option("--no-shrink", "what breaks a promise is not looked for with fewer faults");
command.parse();
const flags = command.opts<Flags>();
const { steps, kinds, store, world } = flags;
const options = {
  steps,
  world,
  ...(kinds === undefined ? {} : { kinds }),
  ...(store === undefined ? {} : { store }),
};

const begunMs = performance.now();
const endMs = flags.minutes === undefined ? Infinity : begunMs + flags.minutes * 60_000;
const count = flags.count ?? (flags.minutes === undefined ? 1 : Infinity);
const injected = new Map<FaultKind, number>();
const acts = new Map<ActKind, number>();
const runsOver = new Map<StoreKind, number>();
/** In how many runs, of those that not every run checks. */
const also = new Map<PromiseId, number>();
const broken: number[] = [];
let done = 0;
let acked = 0;
let events = 0;
let virtualMs = 0;
let toldMs = begunMs;

function progress(): string {
  const seconds = (performance.now() - begunMs) / 1_000;
  return (
    `${done} seeds in ${seconds.toFixed(0)} s (${(done / seconds).toFixed(1)}/s), ` +
    `${(virtualMs / 3_600_000).toFixed(1)} h of virtual time, ${events} events, ${acked} messages acked, ` +
    `${broken.length} seeds broke a promise`
  );
}

async function one(seed: number): Promise<void> {
  const scenario = scenarioOf(seed, options);
  const print = (line: string): void => console.log(line);
  try {
    const result = await run({
      scenario,
      ...(flags.trace === true ? { trace: print } : {}),
      ...(flags.log === true ? { log: print } : {}),
    });
    for (const [kind, times] of result.injected)
      injected.set(kind, (injected.get(kind) ?? 0) + times);
    for (const [kind, times] of result.acts) acts.set(kind, (acts.get(kind) ?? 0) + times);
    const { store: kept } = scenario;
    runsOver.set(kept, (runsOver.get(kept) ?? 0) + 1);
    for (const promise of result.checked) also.set(promise, (also.get(promise) ?? 0) + 1);
    acked += result.acked;
    events += result.events;
    virtualMs += result.virtualMs;
    if (count === 1) console.log(`seed ${seed}: history ${result.digest}`);
    if (result.findings.length > 0) await tell(seed, result.findings);
  } catch (error) {
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    await tell(seed, [{ promise: "P9", what }]);
  }
  done += 1;
}

async function tell(seed: number, found: readonly Finding[]): Promise<void> {
  broken.push(seed);
  console.log(`seed ${seed} ${reportOf(found)}`);
  const scenario = scenarioOf(seed, options);
  if (!flags.shrink) return;
  const { faults, findings, runs } = await shrink(scenario, found, shrinkRunsMax);
  console.log(
    `seed ${seed} with ${faults.length} of ${scenario.faults.length} faults, over ${scenario.store}, after ${runs} runs:`,
  );
  for (const fault of faults) console.log(`  ${named(fault)} (${fault.who.join(" ")})`);
  console.log(reportOf(findings));
}

if (flags.workers > 1) process.exit(await inWorkers(flags.workers, flags.seed, count));
const coverage = flags.coverage === true ? await startCoverage() : undefined;
for (let seed = flags.seed; done < count && performance.now() < endMs; seed += 1) {
  await one(seed);
  if (performance.now() - toldMs < progressMs) continue;
  toldMs = performance.now();
  console.log(progress());
}
console.log(progress());
console.log(
  "faults: " +
    [...injected]
      .toSorted()
      .map(([kind, times]) => `${kind} ${times}`)
      .join(", "),
);
if (acts.size > 0)
  console.log(`besides: ${[...acts].map(([kind, times]) => `${kind} ${times}`).join(", ")}`);
console.log("stores: " + [...runsOver].map(([kind, runs]) => `${kind} ${runs}`).join(", "));
const checkedIn = [...also]
  .toSorted()
  .map(([id, runs]) => `${id} in ${runs}`)
  .join(", ");
console.log(`promises checked in every run: P1 P2 P3 P4 P5 P6 P8; ${checkedIn}`);
if (broken.length > 0) console.log(`broken seeds: ${broken.join(" ")}`);
if (coverage !== undefined) console.log(coverageOf(await coverage.stop()));
process.exitCode = broken.length > 0 ? 1 : 0;
