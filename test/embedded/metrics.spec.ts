/** /metrics of a process: what it counts, that nothing names a user, that clients cannot see it, and that alerts and dashboard ask for what there is. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { pino } from "pino";
import { createNodeClient } from "../../client/node.ts";
import { type Parley, parleyConfig, startParley } from "../../embedded/index.ts";
import { systemClock } from "../../mesh/clock.ts";
import { serviceNames } from "../../mesh/directory.ts";
import { Identity } from "../../mesh/identity.ts";
import { serveMetrics } from "../../mesh/metrics-http.ts";
import { countLease } from "../../mesh/process-meter.ts";
import { systemRandom } from "../../mesh/random.ts";
import { Connection } from "../../storage/cassandra/connection.ts";
import type { Nodes } from "../../storage/cassandra/nodes.ts";
import { Writer } from "../../storage/cassandra/writer.ts";
import { newFolder, testSettings, tokenFor } from "../support/parley.ts";
import { root, textOf } from "../support/tree.ts";
import { asked, within } from "../support/within.ts";

const boundMs = 10_000;

describe("metrics", () => {
  let folder: Awaited<ReturnType<typeof newFolder>>;
  let parley: Parley;
  let url: string;

  before(async () => {
    folder = await newFolder();
    const port = await freePort();
    url = `http://127.0.0.1:${port}/metrics`;
    const settings = testSettings(folder.path, { PARLEY_METRICS_PORT: String(port) });
    parley = await startParley(parleyConfig(settings), { log: pino({ level: "silent" }) });
  });
  after(async () => {
    await parley?.close();
    await folder?.remove();
  });

  const text = async (): Promise<string> => (await fetch(url)).text();
  /** A series' value; undefined: there is no such series. */
  const value = async (series: string): Promise<number | undefined> => {
    const line = (await text()).split("\n").find((one) => one.startsWith(`${series} `));
    return line === undefined ? undefined : Number(line.slice(series.length + 1));
  };
  const becomes = (series: string, wanted: number): Promise<true> =>
    asked(boundMs, `${series} ${wanted}`, async () =>
      (await value(series)) === wanted ? true : undefined,
    );

  it("say that it is ready", async () => {
    assert.equal(await value("parley_ready"), 1);
  });

  it("count a message from its sender to a device, and connections while they last", async () => {
    const edge = `http://127.0.0.1:${parley.port}`;
    const [alice, bob] = await Promise.all(
      ["alice", "bob"].map(async (user) =>
        createNodeClient({ url: edge, token: await tokenFor(user) }),
      ),
    );
    assert.ok(alice !== undefined && bob !== undefined);
    try {
      alice.connect();
      bob.connect();
      await becomes("parley_gateway_connections", 2);
      // The first may come with what bob lacks when he connects; the second is pushed.
      for (const seq of [1, 2]) {
        const got = new Promise<void>((resolve) =>
          bob.on("record", ({ record }) => record.seq === seq && resolve()),
        );
        await alice.send({ user: "bob" }, "Hello").sent;
        await within(boundMs, `record ${seq}`, got);
      }
      assert.equal(await value("parley_gateway_sends_total"), 2);
      assert.equal(await value("parley_gateway_send_failures_total"), 0);
      assert.equal(await value("parley_gateway_ack_seconds_count"), 2);
      assert.ok(((await value("parley_gateway_pushes_total")) ?? 0) >= 1);
      for (const what of ["delivery_batch_conversations", "delivery_commit_seconds"])
        assert.ok(((await value(`parley_${what}_count`)) ?? 0) >= 1, what);
      assert.ok(((await value("parley_storage_commit_seconds_count")) ?? 0) >= 1);
      assert.doesNotMatch(await text(), /alice|bob/);
    } finally {
      await Promise.all([alice.close(), bob.close()]);
    }
    await becomes("parley_gateway_connections", 0);
  });

  it("say how late the event loop is", async () => {
    assert.match(await text(), /^nodejs_eventloop_lag_p99_seconds /m);
  });

  it("are not where clients connect", async () => {
    const { status } = await fetch(`http://127.0.0.1:${parley.port}/metrics`);
    assert.equal(status, 404);
    assert.equal((await fetch(url.replace("/metrics", "/"))).status, 404);
  });
});

/** The table in the documentation, a row for each name, from what the registry says of itself. */
describe("the table of metrics", () => {
  const document = "docs/operations.md";
  const [begin, end] = ["<!-- metrics -->", "<!-- end of metrics -->"] as const;

  /** Which processes have it. */
  const whose = (name: string): string => {
    const [service = ""] = name.replace("parley_", "").split("_");
    if (serviceNames.some((one) => one === service)) return service;
    return name.startsWith("parley_lease") ? "a cluster's" : "all";
  };

  /** All there are: of the whole service in one process, and what only a cluster's have. */
  async function rows(): Promise<string[]> {
    const folder = await newFolder();
    const port = await freePort();
    const settings = testSettings(folder.path, {
      PARLEY_METRICS_PORT: String(port),
      // Never asked, as nothing is sent.
      PARLEY_OTLP_URL: "http://127.0.0.1:1",
    });
    const parley = await startParley(parleyConfig(settings), { log });
    const server = await serveMetrics({ host: "127.0.0.1", port: 0 });
    try {
      const { metrics } = server;
      countLease(metrics, systemClock, new Identity(systemRandom), () => undefined);
      const limits = { inFlightMax: 1, replication: 1 };
      const outside = { clock: systemClock, random: systemRandom, log };
      void new Writer(new Connection(noNodes, limits, outside), closed, log, metrics);
      const texts = await Promise.all(
        [port, server.port].map(async (one) =>
          (await fetch(`http://127.0.0.1:${one}/metrics`)).text(),
        ),
      );
      return texts.flatMap(rowsOf).sort();
    } finally {
      await server.close();
      await parley.close();
      await folder.remove();
    }
  }

  function rowsOf(text: string): string[] {
    const lines = text.split("\n");
    return lines.flatMap((line) => {
      const [, name = "", what = ""] = /^# HELP (parley_\w+) (.+)$/.exec(line) ?? [];
      if (name === "") return [];
      const kind = lines.find((one) => one.startsWith(`# TYPE ${name} `))?.split(" ")[3] ?? "";
      const series = lines.find((one) => new RegExp(`^${name}(_bucket)?\\{`).test(one)) ?? "";
      const labels = [...series.matchAll(/[{,](\w+)=/g)].map(([, label = ""]) => label);
      const shown = labels.filter((label) => label !== "le");
      const labelled = shown.length === 0 ? name : `${name}{${shown.join(",")}}`;
      return [`| \`${labelled}\` | ${kind} | ${whose(name)} | ${what} |`];
    });
  }

  /** Rows without the padding that the formatter adds. */
  const bare = (table: string): string[] =>
    table
      .trim()
      .split("\n")
      .map((row) => row.replace(/-{3,}/g, "---").replace(/ +/g, " ").trim());

  it("is the registry: else run with UPDATE=1", async () => {
    const expected = [
      "| metric | kind | of | what |",
      "| --- | --- | --- | --- |",
      ...(await rows()),
    ];
    assert.ok(expected.length > 35);
    const [before, rest = ""] = textOf(document).split(begin);
    const [table = "", after] = rest.split(end);
    assert.ok(before !== undefined && after !== undefined, `${document} has no ${begin} … ${end}`);
    if (process.env["UPDATE"] !== "1") return assert.deepEqual(bare(table), expected.flatMap(bare));
    const next = `${before}${begin}\n\n${expected.join("\n")}\n\n${end}${after}`;
    writeFileSync(join(root, document), next);
  });

  it("has all that the alert rules and the dashboard ask for", () => {
    const files = ["helm/parley/files/rules.yaml", "helm/parley/files/dashboard.json"];
    const asked = files.flatMap((path) => textOf(path).match(/\bparley_[a-z0-9_]+/g) ?? []);
    const names = [...new Set(asked.map((name) => name.replace(/_(bucket|sum|count)$/, "")))];
    assert.ok(names.length > 20);
    const table = textOf(document).split(begin)[1] ?? "";
    const missing = names.filter((name) => !new RegExp(`^\\| \`${name}[\`{]`, "m").test(table));
    assert.deepEqual(missing, []);
  });
});

const log = pino({ level: "silent" });
const closed = new AbortController().signal;
const noNodes: Nodes = {
  execute: () => Promise.reject(new Error("there is none")),
  batch: () => Promise.reject(new Error("there is none")),
  up: 0,
  look: () => undefined,
  shutdown: () => Promise.resolve(),
};

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no address");
  return address.port;
}
