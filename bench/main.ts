/** `npm run bench`: reads the options, runs the benchmark; exit code 1 where a message was lost, doubled or reordered. */
import { realpathSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { Command, InvalidArgumentError } from "commander";
import { sound } from "./report.ts";
import { runBench } from "./run.ts";
import { isScenario, scenarios, type ScenarioName } from "./scenarios.ts";

const names = Object.keys(scenarios).join(", ");

function scenarioList(text: string): ScenarioName[] {
  return text.split(",").map((part) => {
    const name = part.trim();
    if (!isScenario(name)) throw new InvalidArgumentError(`"${name}" is none of ${names}.`);
    return name;
  });
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 1e9)) throw new InvalidArgumentError("It must be a positive number.");
  return value;
}

interface Flags {
  only?: ScenarioName[];
  quick?: boolean;
  seconds?: number;
  json?: string;
  url?: string;
  pid?: number;
  secret?: string;
  data?: string;
}

function benchCommand(): Command {
  return new Command("bench")
    .description("Measures Parley against a bare WebSocket relay in the same run.")
    .option("--only <scenarios>", `comma-separated, of: ${names}`, scenarioList)
    .option("--quick", "small numbers, a few seconds each")
    .option(
      "--seconds <n>",
      "how long each load is measured (default: 5; 2 with --quick)",
      positive,
    )
    .option("--json <file>", "write the report there as JSON, too")
    .option("--url <url>", "a running server, such as http://127.0.0.1:8080")
    .option("--pid <pid>", "that server's process, for its CPU and memory", positive)
    .option("--secret <secret>", "that server's PARLEY_JWT_SECRET")
    .option("--data <directory>", "where to make stores (default: ./data)");
}

/** `args` are the options alone, as `parley bench` has them. */
export async function main(args: readonly string[]): Promise<void> {
  const command = benchCommand();
  command.parse(args, { from: "user" });
  const flags = command.opts<Flags>();
  // Ends through "exit", where the processes that were started are ended, too.
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => process.exit(130));
  }
  const report = await runBench({
    ...flags,
    secret: flags.secret ?? process.env["PARLEY_JWT_SECRET"],
    print: (text) => console.log(text),
    progress: (text) => console.error(text),
  });
  process.exitCode = sound(report) ? 0 : 1;
}

const [, entry] = process.argv;
if (entry !== undefined && import.meta.url === pathToFileURL(realpathSync(entry)).href) {
  await main(process.argv.slice(2));
}
