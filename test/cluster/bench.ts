/**
 * `npm run bench:cluster`: the benchmark's own loads on whole clusters of this machine, on real etcd and Cassandra, told apart by process. The same loads on
 * the one-process service in the same run are the yardstick.
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "cassandra-driver";
import { faultCount } from "../../bench/check.ts";
import type { LoadResult, PairsJob, Target } from "../../bench/job.ts";
import { loadNow, machine } from "../../bench/machine.ts";
import { generate, startParley } from "../../bench/processes.ts";
import { short } from "../../bench/report.ts";
import type { ServiceName } from "../../mesh/directory.ts";
import { secret } from "../support/parley.ts";
import { Cluster } from "./cluster.ts";
import { newGround, leaveGround } from "./ground.ts";

const host = "127.60.0.1";
const warmMs = 3_000;
const measureMs = Number(process.argv[2] ?? "10") * 1_000;

const loads = [
  { what: "200 clients, window 16", connections: 200, pace: { window: 16 } },
  { what: "2,000 clients, window 1", connections: 2_000, pace: { window: 1 } },
  { what: "200 clients, 2,000/s in all", connections: 200, pace: { perSecond: 2_000 } },
  { what: "200 clients, 500/s in all", connections: 200, pace: { perSecond: 500 } },
] as const;

const shapes: readonly { what: string; counts: Record<ServiceName, number> }[] = [
  { what: "1 of each", counts: { gateway: 1, session: 1, delivery: 1, presence: 1, storage: 1 } },
  {
    what: "2 gateways, 2 deliveries",
    counts: { gateway: 2, session: 1, delivery: 2, presence: 1, storage: 1 },
  },
];

const say = (text: string): void => console.error(text);

async function run(target: Target, load: (typeof loads)[number]): Promise<LoadResult> {
  const { what, connections, pace } = load;
  const name = randomBytes(3).toString("hex");
  const job: PairsJob = { kind: "pairs", target, run: name, warmMs, measureMs, connections, pace };
  const result = await generate(job, 300_000, (text) => say(`  ${what}: ${text}`));
  if (result.kind !== "load") throw new Error(`${what}: an answer of the wrong kind`);
  return result;
}

/** Requests that Cassandra coordinated so far, by table, as its own tables tell. */
async function requests(client: Client): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const kind of ["write", "read"]) {
    const { rows } = await client.execute(
      `SELECT table_name, count FROM system_views.coordinator_${kind}_latency WHERE keyspace_name = 'parley' ALLOW FILTERING`,
    );
    for (const row of rows)
      counts.set(`${kind} ${String(row["table_name"])}`, Number(row["count"]));
  }
  return counts;
}

function difference(before: Map<string, number>, after: Map<string, number>): [string, number][] {
  return [...after].map(([key, count]): [string, number] => [key, count - (before.get(key) ?? 0)]);
}

function line(...cells: (string | number | undefined)[]): void {
  console.log(
    cells
      .map((cell, at) => {
        const text = typeof cell === "number" || cell === undefined ? short(cell) : cell;
        return at === 0 ? text.padEnd(44) : text.padStart(11);
      })
      .join(""),
  );
}

const microsOf = (seconds: number | undefined, count: number): number | undefined =>
  seconds === undefined || count === 0 ? undefined : (seconds * 1e6) / count;

function figures(what: string, { measured, faults }: LoadResult, micros: number | undefined): void {
  const { count, seconds, ack, delivery } = measured;
  const quantiles = (of: typeof ack): string => `${short(of?.p50Ms)}/${short(of?.p99Ms)}`;
  line(what, count / seconds, micros, quantiles(ack), quantiles(delivery), faultCount(faults));
  for (const example of faults.examples.slice(0, 5)) console.log(`    ${example}`);
}

async function yardsticks(folder: string): Promise<(number | undefined)[]> {
  const micros: (number | undefined)[] = [];
  const parley = await startParley(folder, secret);
  for (const load of loads) {
    const result = await run(parley.target, load);
    const each = microsOf(result.measured.serverSeconds, result.measured.count);
    micros.push(each);
    figures(`one process, ${load.what}`, result, each);
  }
  await parley.stop();
  return micros;
}

async function measured(
  folder: string,
  shape: (typeof shapes)[number],
  servers: {
    etcd: string[];
    cassandra: readonly string[];
    pids: [string, number][];
    client: Client;
  },
  embedded: readonly (number | undefined)[],
): Promise<void> {
  const raised = { PARLEY_RATE_PER_SECOND: "1000000", PARLEY_BYTES_PER_SECOND: "1073741824" };
  const settings = { gateway: raised, all: { PARLEY_SHARDS: "64" } };
  const { etcd, cassandra, pids, client } = servers;
  const etcdPrefix = `/bench-${randomBytes(3).toString("hex")}`;
  const cluster = await Cluster.start({
    ...{ etcd, cassandra, etcdPrefix, folder, host, settings },
    counts: shape.counts,
  });
  const processes = [...cluster.processes.values()];
  const names = [...processes.map(({ name }) => name), ...pids.map(([name]) => name)];
  const [first, ...others] = cluster.urls.map((url) => {
    const { hostname, port } = new URL(url);
    return { host: hostname, port: Number(port) };
  });
  if (first === undefined) throw new Error("there is no gateway");
  const otherPids = [...processes.map(({ pid }) => pid), ...pids.map(([, pid]) => pid)];
  const target = { ...first, secret, pid: undefined, others, otherPids };
  for (const [at, load] of loads.entries()) {
    const before = await requests(client);
    const result = await run(target, load);
    const asked = difference(before, await requests(client));
    const { count, otherSeconds = [] } = result.measured;
    const own = otherSeconds.slice(0, processes.length).reduce((sum, one) => sum + one, 0);
    const micros = microsOf(own, count);
    figures(`${shape.what}, ${load.what}`, result, micros);
    const each = embedded[at];
    const times = each === undefined || micros === undefined ? "-" : (micros / each).toFixed(2);
    console.log(`    CPU of Parley's processes: ${times} of the one process's`);
    console.log(`    CPU us a message: ${shares(names, otherSeconds, count)}`);
    console.log(`    Cassandra, requests a message: ${perMessage(asked, result)}`);
  }
  await cluster.close();
}

function shares(names: string[], seconds: readonly number[], count: number): string {
  return names.map((name, at) => `${name} ${short(microsOf(seconds[at], count))}`).join(", ");
}

/** Over the whole run, warm-up and first words included: as many messages as were sent in that time, by the measured rate. */
function perMessage(asked: [string, number][], { measured }: LoadResult): string {
  const messages = (measured.count / measured.seconds) * ((warmMs + measureMs) / 1_000);
  const told = asked.filter(([, count]) => count > 0).sort();
  const sum = (kind: string): string => {
    const counts = told.filter(([key]) => key.startsWith(kind)).map(([, count]) => count);
    return short(counts.reduce((all, one) => all + one, 0) / messages);
  };
  const each = told.map(([key, count]) => `${key} ${short(count / messages)}`).join(", ");
  return `writes ${sum("write")}, reads ${sum("read")} (${each})`;
}

/** The newest process with this in its command line. */
function pidOf(part: string): number {
  return Number(execFileSync("pgrep", ["-n", "-f", "--", part], { encoding: "utf8" }));
}

const folder = await mkdtemp(join(tmpdir(), "parley-bench-"));
const found = machine(folder);
console.log(
  `${found.cpu}, ${found.cores} cores, ${found.memoryGiB} GiB, node ${found.node}, commit ${found.commit}`,
);
console.log(`load average ${found.load} at the beginning; ${measureMs / 1_000} s each`);
say("starting etcd and Cassandra");
const ground = await newGround([host], [host]);
const client = new Client({ contactPoints: [host], localDataCenter: "datacenter1" });
try {
  line("", "per s", "CPU us", "ack ms", "deliv. ms", "faults");
  const embedded = await yardsticks(join(folder, "one"));
  const pids: [string, number][] = [
    ["etcd", pidOf(`--name=${host}`)],
    ["cassandra", pidOf("CassandraDaemon")],
  ];
  const servers = {
    etcd: ground.etcd.endpoints,
    cassandra: ground.cassandra.endpoints,
    pids,
    client,
  };
  for (const shape of shapes) await measured(folder, shape, servers, embedded);
  console.log(`load average ${loadNow()} at the end`);
} finally {
  await client.shutdown();
  await leaveGround(ground);
  await rm(folder, { recursive: true, force: true });
}
