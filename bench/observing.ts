/** What it costs to be looked at: metrics, what scrapes them, and traces, each turned on and off in a server under load. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Interval } from "./interval.ts";
import { freePort, type Observed } from "./processes.ts";
import type { Goal, Row } from "./report.ts";
import {
  bareMicros,
  blocksOf,
  countedTimes,
  microsForEach,
  moreOf,
  scaled,
  together,
  type Block,
  type Slicing,
} from "./slices.ts";
import { directLoads, load, pairsJob, row, type Outcome, type Stage } from "./stage.ts";

/** As often as an eager Prometheus. */
const scrapeSeconds = 5;
const scrapes = 40;
/** Every message would be followed, but for the bound: so many a second. */
const everyRatio = "1";
const followedPerSecond = 100;
const standardRatio = 0.001;
/** Three in a hundred. */
const limit = 0.03;
const warmSeconds = 4;

/** Short, so that much else is the same in two of them; those of traces longer than a batch of spans waits and is sent. */
const slicings = {
  metrics: { kind: "begin", what: "metrics", sliceMs: 250, settleMs: 0 },
  traces: { kind: "begin", what: "traces", sliceMs: 2_500, settleMs: 2_500 },
} as const satisfies Record<string, Slicing>;

type DirectLoad = (typeof directLoads)[number];
interface Found {
  readonly load: DirectLoad;
  readonly metrics: Block[];
  readonly traces: Block[];
  readonly rows: Row[];
}

export async function observingScenario(stage: Stage): Promise<Outcome> {
  const found = directLoads.map((one): Found => ({ load: one, metrics: [], traces: [], rows: [] }));
  const scraped: number[] = [];
  const collector = await startCollector();
  const { rounds } = stage.scale.observing;
  try {
    for (let round = 1; round <= rounds; round++) {
      for (const what of ["metrics", "traces"] as const) {
        const port = await freePort();
        const traces = { PARLEY_OTLP_URL: collector.url, PARLEY_TRACE_RATIO: everyRatio };
        const metrics = { PARLEY_METRICS_PORT: String(port) };
        const server = await stage.observed({ ...metrics, ...(what === "traces" ? traces : {}) });
        try {
          for (const one of found)
            await sliced(stage, server, one, what, `round ${round} of ${rounds}`);
          if (what === "metrics") scraped.push(await scrapeCost(server, port));
        } finally {
          await server.stop();
        }
      }
    }
  } finally {
    await collector.close();
  }
  const scrape = scraped.reduce((sum, one) => sum + one, 0) / scraped.length;
  const note = `a scrape takes ${(scrape * 1e3).toFixed(1)} ms of CPU; ${collector.requests()} requests with traces came`;
  return {
    rows: [...found.flatMap(({ rows }) => rows), { scenario: "observing", what: "scrape", note }],
    goals: found.flatMap((one) => goalsOf(one, scrape / scrapeSeconds)),
  };
}

const nameOf = ({ connections, window }: DirectLoad): string =>
  `1:1, ${connections} clients, window ${window}`;

async function sliced(
  stage: Stage,
  server: Observed,
  found: Found,
  what: keyof typeof slicings,
  round: string,
): Promise<void> {
  const name = `${nameOf(found.load)}, ${what} on and off, ${round}`;
  const measureMs = stage.scale.observing[`${what}Seconds`] * 1_000;
  server.begin(slicings[what]);
  const job = { ...pairsJob(stage, server.target, found.load), measureMs };
  const result = await load(stage, job, name);
  const { slices } = await server.end();
  found[what].push(...blocksOf(slices, warmSeconds));
  found.rows.push(row("observing", name, result));
}

/** Seconds of CPU for one, while nothing else is done. */
async function scrapeCost(server: Observed, port: number): Promise<number> {
  const scrape = async (): Promise<void> => {
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    if (!text.includes("parley_ready 1")) throw new Error("what is scraped are no metrics");
  };
  await scrape();
  const before = await server.end();
  for (let at = 0; at < scrapes; at++) await scrape();
  return ((await server.end()).cpuSeconds - before.cpuSeconds) / scrapes;
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

/** `scraping`: of a whole core's time, which at full load is the server's. */
function goalsOf({ load: of, metrics, traces }: Found, scraping: number): Goal[] {
  const goal = (what: string, interval: Interval | undefined, blocks: number): Goal => ({
    what: `${nameOf(of)}: ${what}, of a message's CPU, ${blocks} blocks`,
    value: interval?.mean,
    ...(interval && { interval }),
    limit,
    bound: "at most",
    unit: "",
  });
  const manyTimes = moreOf(metrics);
  const counted = manyTimes && scaled(manyTimes, 1 / countedTimes);
  const scrape = { mean: scraping, low: scraping, high: scraping };
  const withMetrics = counted && together([counted, scrape]);
  const each = microsForEach(traces, followedPerSecond);
  const withTraces = each && scaled(each, standardRatio / bareMicros(traces));
  const told = each ? ` (${[each.mean, each.low, each.high].map(Math.round).join(", ")} us)` : "";
  const both = withMetrics && withTraces && together([withMetrics, withTraces]);
  return [
    goal("metrics, scraped", withMetrics, metrics.length),
    goal(`traces of one in a thousand${told}`, withTraces, traces.length),
    goal("both", both, metrics.length + traces.length),
  ];
}
