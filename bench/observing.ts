/** What it costs to be looked at: servers with metrics that are scraped, with traces besides, and with neither take turns. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Job, LoadResult, Target } from "./job.ts";
import { freePort, type Serving } from "./processes.ts";
import { microsEach, type Goal, type Row } from "./report.ts";
import {
  directLoads,
  load,
  medianOf,
  pairsJob,
  ratio,
  row,
  using,
  type Outcome,
  type Stage,
} from "./stage.ts";

/** As often as an eager Prometheus. */
const scrapeMs = 5_000;
/** At most three in a hundred more. */
const limit = 1.03;

type Way = "neither" | "metrics" | "metrics and traces";

/** How often each is measured in a round. */
const turnsMax = 6;

const ways: readonly Way[] = ["neither", "metrics", "metrics and traces"];

/** The results of a way and a load, a round after the other. */
class Results {
  readonly #all = new Map<string, LoadResult[]>();

  of(way: Way, what: string): LoadResult[] {
    const key = `${way}: ${what}`;
    const known = this.#all.get(key) ?? [];
    this.#all.set(key, known);
    return known;
  }
}

export async function observingScenario(stage: Stage): Promise<Outcome> {
  const results = new Results();
  const collector = await startCollector();
  try {
    for (let round = 0; round < stage.scale.observingRounds; round++)
      await using(server(stage, "neither", collector.url), (neither) =>
        using(server(stage, "metrics", collector.url), (metrics) =>
          using(server(stage, "metrics and traces", collector.url), (traces) =>
            takeTurns(stage, { neither, metrics, "metrics and traces": traces }, results),
          ),
        ),
      );
  } finally {
    await collector.close();
  }
  const found = directLoads.map((one) => compared(results, nameOf(one)));
  const traces = `${collector.requests()} requests with traces came`;
  return {
    rows: [...found.flatMap(({ rows }) => rows), { scenario: "observing", what: traces }],
    goals: found.flatMap(({ goals }) => goals),
  };
}

const nameOf = ({ connections, window }: (typeof directLoads)[number]): string =>
  `1:1, ${connections} clients, window ${window}`;

/** All three are there; one at a time has something to do, for a short while, so that whatever else the machine does is the same for all. */
async function takeTurns(
  stage: Stage,
  targets: Readonly<Record<Way, Target>>,
  results: Results,
): Promise<void> {
  for (const one of directLoads) {
    const what = nameOf(one);
    // The first turn of each is for its machine code to be made.
    for (let turn = 0; turn <= turnsMax; turn++) {
      // Each is the first, the second and the last equally often.
      for (const way of [...ways.slice(turn % 3), ...ways.slice(0, turn % 3)]) {
        const job: Job = {
          ...pairsJob(stage, targets[way], one),
          warmMs: turn === 0 ? 3_000 : 500,
        };
        const result = await load(stage, job, `${what}, with ${way}`);
        if (turn > 0) results.of(way, what).push(result);
      }
    }
  }
}

/** A server that is looked at in this way until it is stopped. */
async function server(stage: Stage, way: Way, collector: string): Promise<Serving> {
  const port = await freePort();
  const metrics = way === "neither" ? {} : { PARLEY_METRICS_PORT: String(port) };
  const traces = way === "metrics and traces" ? { PARLEY_OTLP_URL: collector } : {};
  const serving = await stage.parley({ ...metrics, ...traces });
  const ending = new AbortController();
  const scraping = way === "neither" ? undefined : scrape(port, ending.signal);
  return {
    target: serving.target,
    async stop() {
      ending.abort();
      await scraping;
      await serving.stop();
    },
  };
}

async function scrape(port: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    if (!text.includes("parley_ready 1")) throw new Error("what is scraped are no metrics");
    await sleep(scrapeMs, undefined, { signal }).catch(() => undefined);
  }
}

/** Takes what is sent and forgets it. */
async function startCollector() {
  let requests = 0;
  const server = createServer((request, response) => {
    requests += 1;
    request.resume().once("end", () => response.end("{}"));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    requests: () => requests,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

function compared(results: Results, what: string): { rows: Row[]; goals: Goal[] } {
  const bare = results.of("neither", what);
  const rows: Row[] = [row("observing", `${what}, with neither`, medianOf(bare))];
  const goals: Goal[] = [];
  for (const way of ways.slice(1)) {
    const seen = results.of(way, what);
    const ratios = seen
      .flatMap(({ measured }, at) => {
        const before = bare[at];
        const value = before && ratio(microsEach(measured), microsEach(before.measured));
        return value === undefined ? [] : [value];
      })
      .sort((one, other) => one - other);
    const note = `of neither's CPU, turn by turn, least to most in quarters: ${spread(ratios)}`;
    rows.push({ ...row("observing", `${what}, with ${way}`, medianOf(seen)), note });
    goals.push({
      what: `CPU of a message with ${way}, of one with neither, ${what}: the median of ${ratios.length} turns`,
      value: quantile(ratios, 0.5),
      limit,
      bound: "at most",
      unit: "",
    });
  }
  return { rows, goals };
}

const spread = (ratios: readonly number[]): string =>
  [0, 0.25, 0.5, 0.75, 1].map((part) => (quantile(ratios, part) ?? NaN).toFixed(3)).join(" ");

/** Of numbers in their order. */
function quantile(values: readonly number[], part: number): number | undefined {
  const at = part * (values.length - 1);
  const [low, high] = [values[Math.floor(at)], values[Math.ceil(at)]];
  return low === undefined || high === undefined ? undefined : low + (high - low) * (at % 1);
}
