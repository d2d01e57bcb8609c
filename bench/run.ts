/** Runs the benchmark: the scenarios asked for, one after the other, a failed one not in the way of the next. */
import { randomBytes } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { measurable } from "./cpu.ts";
import { loadNow, machine } from "./machine.ts";
import {
  generate,
  pins,
  startObserved,
  startParley,
  startRelay,
  type Serving,
} from "./processes.ts";
import { printed, sound, type Goal, type Report, type Row } from "./report.ts";
import { scenarios, type ScenarioName } from "./scenarios.ts";
import { fullScale, quickScale, type Scale, type Stage } from "./stage.ts";

export interface BenchOptions {
  /** All but `relay`, which `direct` contains, where it is missing. */
  readonly only?: readonly ScenarioName[] | undefined;
  /** Short runs and small numbers: for a look while developing. */
  readonly quick?: boolean | undefined;
  /** How long each load is measured. */
  readonly seconds?: number | undefined;
  /** Where the report goes as JSON, besides being printed. */
  readonly json?: string | undefined;
  /** A running server instead of one of the benchmark's own. */
  readonly url?: string | undefined;
  /** That server's process, for its CPU and memory. */
  readonly pid?: number | undefined;
  /** That server's PARLEY_JWT_SECRET. */
  readonly secret?: string | undefined;
  /** Where stores are made; on the disk that is to be measured. */
  readonly data?: string | undefined;
  /** Takes the report. */
  readonly print: (text: string) => void;
  /** Takes a line now and then. */
  readonly progress: (text: string) => void;
}

const all: readonly ScenarioName[] = ["direct", "latency", "group", "idle", "growth"];

/** Growing a store that is somebody's own is done only where it is asked for by name. */
function chosen(options: BenchOptions): readonly ScenarioName[] {
  if (options.only !== undefined && options.only.length > 0) return options.only;
  return options.url === undefined ? all : all.filter((name) => name !== "growth");
}

function running(options: BenchOptions, url: string): Serving {
  const { hostname, port, protocol } = new URL(url);
  if (protocol !== "http:" && protocol !== "ws:") {
    throw new Error(`${url}: the benchmark speaks http or ws only, no TLS`);
  }
  if (options.secret === undefined) {
    throw new Error("a running server needs --secret or PARLEY_JWT_SECRET, to sign users' tokens");
  }
  const target = {
    host: hostname,
    port: Number(port === "" ? "80" : port),
    secret: options.secret,
    pid: options.pid,
  };
  return { target, stop: () => Promise.resolve() };
}

function jobLimitMs(scale: Scale): number {
  return 600_000 + scale.warmMs + scale.measureMs;
}

function stageOf(options: BenchOptions, scale: Scale, directory: string): Stage {
  const run = randomBytes(3).toString("hex");
  let runs = 0;
  let stores = 0;
  const secret = randomBytes(32).toString("hex");
  return {
    scale,
    nextRun: () => `${run}${(runs++).toString(36)}`,
    relay: async () => blind(await startRelay()),
    parley: async (settings) => {
      if (options.url !== undefined) return running(options, options.url);
      const store = join(directory, String(stores++));
      mkdirSync(store);
      return blind(await startParley(store, secret, settings));
    },
    observed: (settings) => {
      const store = join(directory, String(stores++));
      mkdirSync(store);
      return startObserved(store, secret, settings);
    },
    generate: (job, what) => {
      options.progress(what);
      return generate(job, jobLimitMs(scale), (text) => options.progress(`${what}: ${text}`));
    },
  };
}

/** Where the system does not tell, CPU and memory are not measured. */
function blind(serving: Serving): Serving {
  if (measurable()) return serving;
  return { ...serving, target: { ...serving.target, pid: undefined } };
}

/** The report, printed and, where asked for, written. `sound` tells whether nothing was lost, doubled or reordered. */
export async function runBench(options: BenchOptions): Promise<Report> {
  const quick = options.quick ?? false;
  const seconds = options.seconds ?? (quick ? 2 : 5);
  const scale = quick ? quickScale(seconds) : fullScale(seconds);
  const parent = resolve(options.data ?? "data");
  const directory = join(parent, `bench-${randomBytes(4).toString("hex")}`);
  mkdirSync(directory, { recursive: true });
  const clear = (): void => rmSync(directory, { recursive: true, force: true });
  process.once("exit", clear);
  const rows: Row[] = [];
  const goals: Goal[] = [];
  const failures: Report["failures"] = [];
  const found = machine(options.url === undefined ? directory : undefined);
  const stage = stageOf(options, scale, directory);
  const names = chosen(options);
  for (const scenario of names) {
    try {
      const outcome = await scenarios[scenario](stage);
      rows.push(...outcome.rows);
      goals.push(...outcome.goals);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      failures.push({ scenario, message });
      options.progress(`${scenario} failed: ${message}`);
    }
  }
  process.off("exit", clear);
  clear();
  const report: Report = {
    machine: found,
    settings: {
      scenarios: names.join("+"),
      seconds,
      quick,
      rounds: scale.rounds,
      pinned: pins(),
      server: options.url ?? "its own",
      "text bytes": 120,
    },
    rows,
    goals,
    failures,
    loadAtEnd: loadNow(),
  };
  options.print(printed(report));
  if (options.json !== undefined) {
    writeFileSync(
      options.json,
      `${JSON.stringify({ ...report, sound: sound(report) }, null, 2)}\n`,
    );
  }
  return report;
}
