/** What it costs to be looked at: servers with metrics that are scraped, with traces besides, and two with neither take turns. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { intervalOfRatios } from "./interval.ts";
import type { LoadResult, Target } from "./job.ts";
import { freePort, type Serving } from "./processes.ts";
import { microsEach, type Goal, type Row } from "./report.ts";
import { directLoads, medianOf, row, using, type Outcome, type Stage } from "./stage.ts";

/** The second with nothing shows what the measure finds where there is nothing to find. */
const ways = ["neither", "neither, again", "metrics", "metrics and traces"] as const;
type Way = (typeof ways)[number];
const lookedAt: readonly Way[] = ["metrics", "metrics and traces"];

/** A server is busy for one turn in four, so that this is every 5 s of its own time, as often as an eager Prometheus. */
const scrapeMs = 5_000 * ways.length;
const turnMs = 500;
const warmMs = 3_000;
/** At most three in a hundred more. */
const limit = 1.03;

/** Of one load, each way's result of each round. */
type Results = Record<Way, LoadResult[]>;
const noResults = (): Results => ({
  neither: [],
  "neither, again": [],
  metrics: [],
  "metrics and traces": [],
});

export async function observingScenario(stage: Stage): Promise<Outcome> {
  const loads = directLoads.map((load) => ({ load, results: noResults() }));
  const collector = await startCollector();
  const { rounds } = stage.scale.observing;
  try {
    for (let round = 0; round < rounds; round++)
      await usingAll(stage, collector.url, [...ways], [], async (targets) => {
        for (const { load, results } of loads) {
          const what = `${nameOf(load)}, round ${round + 1} of ${rounds}`;
          const job = { kind: "turns", targets, run: stage.nextRun(), ...load } as const;
          const { blocks } = stage.scale.observing;
          const found = await stage.generate({ ...job, warmMs, turnMs, blocks }, what);
          if (found.kind !== "turns") throw new Error(`${what}: an answer of the wrong kind`);
          for (const [at, way] of ways.entries()) {
            const result = found.results[at];
            if (result !== undefined) results[way].push(result);
          }
        }
      });
  } finally {
    await collector.close();
  }
  const all = loads.map(({ load, results }) => compared(results, nameOf(load)));
  const traces = `${collector.requests()} requests with traces came`;
  return {
    rows: [...all.flatMap(({ rows }) => rows), { scenario: "observing", what: traces }],
    goals: all.flatMap(({ goals }) => goals),
  };
}

const nameOf = ({ connections, window }: (typeof directLoads)[number]): string =>
  `1:1, ${connections} clients, window ${window}`;

/** One server for each way is there at the same time. */
async function usingAll(
  stage: Stage,
  collector: string,
  [way, ...more]: readonly Way[],
  targets: readonly Target[],
  use: (targets: readonly Target[]) => Promise<void>,
): Promise<void> {
  if (way === undefined) return use(targets);
  await using(server(stage, way, collector), (target) =>
    usingAll(stage, collector, more, [...targets, target], use),
  );
}

/** A server that is looked at in this way until it is stopped. */
async function server(stage: Stage, way: Way, collector: string): Promise<Serving> {
  const port = await freePort();
  const looked = lookedAt.includes(way);
  const metrics = looked ? { PARLEY_METRICS_PORT: String(port) } : {};
  const traces = way === "metrics and traces" ? { PARLEY_OTLP_URL: collector } : {};
  const serving = await stage.parley({ ...metrics, ...traces });
  const ending = new AbortController();
  const scraping = looked ? scrape(port, ending.signal) : undefined;
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

/** Of one round: the server's CPU for a message, of that of those with nothing. */
function ratiosOf(results: Results, way: Way, bare: readonly Way[]): number[] {
  return results[way].flatMap(({ measured }, round) => {
    const value = microsEach(measured);
    const others = bare.map((other) => {
      const of = results[other][round];
      return of && microsEach(of.measured);
    });
    const known = others.filter((other) => other !== undefined);
    if (value === undefined || known.length < bare.length) return [];
    const logs = known.reduce((sum, other) => sum + Math.log(other), 0);
    return [value / Math.exp(logs / known.length)];
  });
}

export function compared(results: Results, what: string): { rows: Row[]; goals: Goal[] } {
  const rows = ways.map((way) => row("observing", `${what}, with ${way}`, medianOf(results[way])));
  const goals = ways.slice(1).map((way): Goal => {
    const bare: Way[] = lookedAt.includes(way) ? ["neither", "neither, again"] : ["neither"];
    const ratios = ratiosOf(results, way, bare);
    const interval = intervalOfRatios(ratios);
    return {
      what: `CPU of a message with ${way}, of one with neither, ${what}: ${ratios.length} rounds`,
      value: interval?.mean,
      limit,
      bound: "at most",
      unit: "",
      ...(interval && { interval }),
    };
  });
  return { rows, goals };
}
