/** `npm run cluster`: a whole cluster on this machine, two of each, with etcd and Cassandra, until Ctrl-C. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { promisify } from "node:util";
import type { Settings } from "../support/parley.ts";
import { root } from "../support/tree.ts";
import { Cluster } from "./cluster.ts";

const run = promisify(execFile);
const folder = join(root, process.argv[2] ?? "data/cluster");
const beganMs = performance.now();

function say(line: string): void {
  const seconds = ((performance.now() - beganMs) / 1_000).toFixed(1).padStart(6);
  console.log(`${seconds} s  ${line}`);
}

const script = (server: string, name: string): string =>
  join(root, "test/cluster/servers", server, `${name}.sh`);

async function startServer(server: string): Promise<void> {
  await run(script(server, "install"), [], { maxBuffer: 2 ** 26 });
  say(`${server} is installed; it starts`);
  await run(script(server, "start"), [join(folder, server)]);
  say(`${server} is up`);
}

/** The cluster's own, the same over restarts; where `parley chat` and `parley token` look for it. */
async function ownSecret(): Promise<string> {
  const path = join(folder, "jwt-secret");
  const made = randomBytes(32).toString("hex");
  await writeFile(path, `${made}\n`, { flag: "wx", mode: 0o600 }).catch(() => undefined);
  return (await readFile(path, "utf8")).trim();
}

/** Each tells its clients where the other is when it goes away. */
const gateway = (port: string): Settings => ({
  PARLEY_PORT: port,
  PARLEY_PUBLIC_URL: `http://127.0.0.1:${port}`,
});

let cluster: Cluster | undefined;
let stopping = false;

async function stop(code: number): Promise<void> {
  if (stopping) process.exit(130);
  stopping = true;
  say("stopping; Ctrl-C again ends it at once");
  await cluster?.close().catch((error: unknown) => say(String(error)));
  for (const server of ["cassandra", "etcd"])
    await run(script(server, "stop"), [join(folder, server)]).catch((error: unknown) =>
      say(String(error)),
    );
  say("all of it has ended; its data stays in " + folder);
  process.exit(code);
}

process.on("SIGINT", () => void stop(0));
process.on("SIGTERM", () => void stop(0));

try {
  await mkdir(folder, { recursive: true });
  say("etcd and Cassandra: the first time they are fetched and built, which takes minutes");
  await Promise.all([startServer("etcd"), startServer("cassandra")]);
  cluster = await Cluster.prepare({
    etcd: ["127.0.0.1:2379"],
    cassandra: ["127.0.0.1:9042"],
    folder,
    secret: await ownSecret(),
    settings: { "gateway-0": gateway("8080"), "gateway-1": gateway("8081") },
    said: say,
    died: (name, { code, signal }) => say(`${name} died (${signal ?? code}): see its log`),
  });
  say("the schema is there");
  const { names } = cluster;
  const all = cluster;
  await Promise.all(names.map((name) => all.start(name)));
  await Promise.all(names.map((name) => all.ready(name).then(() => say(`${name} is ready`))));
  const [first = "", second = ""] = all.urls;
  const data = relative(process.cwd(), folder);
  console.log(`
Parley's cluster is up: two of each.
  clients  ${first} and ${second}
  logs     ${relative(process.cwd(), join(folder, "logs"))}, one file for each process
Try it, each in a terminal of its own:
  npx parley chat --data ${data} --url ${first} --as alice --with bob
  npx parley chat --data ${data} --url ${second} --as bob --with alice
  grpcurl -plaintext ${all.process("gateway-0").mesh} parley.gateway.v1.GatewayService/ListConnections
  kill -9 ${all.process("delivery-0").pid}     # delivery-0: messages go on
Ctrl-C stops all of it.`);
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  await stop(1);
}
