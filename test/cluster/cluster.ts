/** Parley as processes on this machine: started, ended, killed, paused and asked by name ("gateway-0"). What they store and how they find each other is given. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { get } from "node:http";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { serviceNames } from "../../mesh/directory.ts";
import type { ServiceName } from "../../mesh/directory.ts";
import { nodeFlags } from "../../bench/node-flags.ts";
import { commandFile } from "../support/command.ts";
import { secret } from "../support/parley.ts";
import type { Settings } from "../support/parley.ts";
import { root } from "../support/tree.ts";
import { asked, within } from "../support/within.ts";

const listenMs = 60_000;
const readyMs = 60_000;
const endMs = 30_000;
const migrateMs = 120_000;

/** Those that this process started and that are still there: they go when it goes. */
const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export interface ClusterOptions {
  /** "host:port" of etcd's members. */
  readonly etcd: readonly string[];
  /** Contact points of Cassandra, "host:port". */
  readonly cassandra: readonly string[];
  /** One for each test that shares Cassandra; "parley" if not given. */
  readonly keyspace?: string;
  /** Copies of each row; 1 if not given. */
  readonly replication?: number;
  /** One for each test that shares etcd; "/parley" if not given. */
  readonly etcdPrefix?: string;
  /** How many of each; 2 if not given. */
  readonly counts?: Partial<Readonly<Record<ServiceName, number>>>;
  /** Of "all", of a service ("gateway"), of a process ("gateway-0"): the nearest wins. */
  readonly settings?: Readonly<Record<string, Settings>>;
  /** What tokens are signed with; that of all tests if not given. */
  readonly secret?: string;
  /** Of a process ("gateway-0") or "migrate": the tree that it runs from when it starts next, where it is not this one. */
  readonly trees?: ReadonlyMap<string, string>;
  /** Of a service ("presence") or a process ("presence-0"): the program that runs instead of ours. */
  readonly programs?: Readonly<Record<string, string>>;
  /** Logs and media are here. */
  readonly folder: string;
  /** Where all of them listen: an address of the test's own keeps ports of other programs out. */
  readonly host?: string;
  /** What is going on, for people. */
  readonly said?: (line: string) => void;
  /** Called when a process ends that nobody ended. */
  readonly died?: (name: string, ended: Ended) => void;
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** One process of the cluster. Where it listens stays the same when it starts again; pid and id do not. */
export interface ClusterProcess {
  readonly name: string;
  readonly service: ServiceName;
  readonly pid: number;
  /** Of the life that it began with. */
  readonly id: string;
  /** Where gRPC listens, "host:port". */
  readonly mesh: string;
  /** Where /healthz and /readyz are, "http://host:port". */
  readonly health: string;
  /** Where clients connect; empty where it is no gateway. */
  readonly url: string;
}

interface Running {
  readonly child: ChildProcess;
  readonly said: ClusterProcess;
  readonly ended: Promise<Ended>;
  /** Its end was asked for. */
  ending: boolean;
}

type Listening = Pick<ClusterProcess, "pid" | "id" | "mesh" | "health" | "url">;

const endingOrder: readonly (readonly ServiceName[])[] = [
  ["gateway"],
  ["session", "delivery", "presence"],
  ["storage"],
];

export class Cluster {
  readonly options: ClusterOptions;
  readonly #running = new Map<string, Running>();
  /** Where each listened first. */
  readonly #ports = new Map<string, Settings>();

  private constructor(options: ClusterOptions) {
    this.options = options;
  }

  /** Makes the schema, starts all and resolves when all are ready. */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const cluster = await Cluster.prepare(options);
    try {
      await Promise.all(cluster.names.map((name) => cluster.start(name)));
      await Promise.all(cluster.names.map((name) => cluster.ready(name)));
    } catch (error) {
      await cluster.close("SIGKILL");
      throw error;
    }
    return cluster;
  }

  /** Makes the schema, and starts nothing. */
  static async prepare(options: ClusterOptions): Promise<Cluster> {
    await mkdir(join(options.folder, "logs"), { recursive: true });
    const cluster = new Cluster(options);
    await cluster.migrate();
    return cluster;
  }

  /** What tokens are signed with. */
  get secret(): string {
    return this.options.secret ?? secret;
  }

  /** Of all that belong to it, running or not. */
  get names(): string[] {
    return serviceNames.flatMap((service) => this.namesOf(service));
  }

  namesOf(service: ServiceName): string[] {
    const count = this.options.counts?.[service] ?? 2;
    return Array.from({ length: count }, (_, at) => `${service}-${at}`);
  }

  /** Those that run, by name, in the order of their names. */
  get processes(): ReadonlyMap<string, ClusterProcess> {
    const names = [...this.#running.keys()].sort();
    return new Map(names.map((name) => [name, this.process(name)]));
  }

  /** One that runs. */
  process(name: string): ClusterProcess {
    return this.#at(name).said;
  }

  /** Where clients connect: the gateways that run. */
  get urls(): string[] {
    return [...this.processes.values()].map(({ url }) => url).filter((url) => url !== "");
  }

  logPath(name: string): string {
    return join(this.options.folder, "logs", `${name}.log`);
  }

  log(name: string): Promise<string> {
    return readFile(this.logPath(name), "utf8");
  }

  async migrate(): Promise<void> {
    const { keyspace = "parley", cassandra, replication = 1 } = this.options;
    const child = this.#spawn("migrate", ["migrate"], {
      PARLEY_CASSANDRA: cassandra.join(","),
      PARLEY_CASSANDRA_KEYSPACE: keyspace,
      PARLEY_CASSANDRA_REPLICATION: String(replication),
    });
    const ended = endOf(child);
    const { code, signal } = await within(migrateMs, "the schema", ended).finally(() =>
      child.kill("SIGKILL"),
    );
    if (code !== 0)
      throw new Error(`parley migrate ended with ${code ?? signal}: ${await this.log("migrate")}`);
  }

  /** Resolves when it listens, which is before it is ready; rejects, with its log, when it ends before that. */
  async start(name: string, settings: Settings = {}): Promise<ClusterProcess> {
    if (this.#running.has(name)) throw new Error(`${name} runs already`);
    const service = serviceOf(name);
    const all = { ...this.#settings(name, service), ...this.#ports.get(name), ...settings };
    const child = this.#spawn(name, [service, "--json"], all);
    const ended = endOf(child);
    const listening = await within(
      listenMs,
      `${name}'s address`,
      Promise.race([listeningOf(child), ended.then(() => undefined)]),
    ).catch((error: unknown) => {
      child.kill("SIGKILL");
      throw error;
    });
    if (listening === undefined)
      throw new Error(`${name} ended before it listened: ${await this.log(name)}`);
    const said = { name, service, ...listening };
    const one: Running = { child, said, ended, ending: false };
    this.#running.set(name, one);
    this.#keepPorts(said);
    void ended.then((end) => {
      if (this.#running.get(name) === one) this.#running.delete(name);
      if (!one.ending) this.options.died?.(name, end);
    });
    return said;
  }

  /** Resolves when it says that it is ready. */
  async ready(name: string, ms = readyMs): Promise<void> {
    let last = "no answer";
    const ask = async (): Promise<true | undefined> => {
      if (!this.#running.has(name))
        throw new Error(`${name} ended before it was ready: ${await this.log(name)}`);
      const { status, body } = await this.readiness(name).catch((error: unknown) => ({
        status: 0,
        body: String(error),
      }));
      last = body;
      return status === 200 ? true : undefined;
    };
    await asked(ms, `${name} to be ready`, ask).catch((cause: unknown) => {
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`${message}; it last said: ${last}`, { cause });
    });
  }

  /** What /readyz answers. */
  readiness(name: string): Promise<{ status: number; body: string }> {
    return answerOf(`${this.process(name).health}/readyz`);
  }

  /** Sends a signal and waits for the end. SIGTERM: it drains first. */
  async end(name: string, signal: NodeJS.Signals = "SIGTERM", ms = endMs): Promise<Ended> {
    const one = this.#at(name);
    one.ending = true;
    one.child.kill(signal);
    return within(ms, `the end of ${name} by ${signal}`, one.ended);
  }

  /** Ends it and starts it again at the same place; resolves when it is ready. */
  async restart(name: string, signal: NodeJS.Signals = "SIGTERM"): Promise<ClusterProcess> {
    await this.end(name, signal);
    const process = await this.start(name);
    await this.ready(name);
    return process;
  }

  /** It stands still, its sockets open, until `resume`. */
  pause(name: string): void {
    this.#at(name).child.kill("SIGSTOP");
  }

  resume(name: string): void {
    this.#at(name).child.kill("SIGCONT");
  }

  /** Ends clients' edges first and storage last. What does not end in time is killed and named. */
  async close(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const late: string[] = [];
    const end = async (name: string): Promise<void> => {
      const one = this.#at(name);
      try {
        one.child.kill("SIGCONT");
        await this.end(name, signal);
      } catch {
        late.push(name);
        one.child.kill("SIGKILL");
        await one.ended;
      }
    };
    for (const services of endingOrder) {
      const names = [...this.processes.values()].filter(({ service }) =>
        services.includes(service),
      );
      await Promise.all(names.map(({ name }) => end(name)));
    }
    if (late.length > 0) throw new Error(`killed, as they did not end: ${late.join(", ")}`);
  }

  #at(name: string): Running {
    const one = this.#running.get(name);
    if (one === undefined) throw new Error(`${name} does not run`);
    return one;
  }

  /** The settings of a process but for its ports. */
  #settings(name: string, service: ServiceName): Settings {
    const { etcd, etcdPrefix = "/parley", cassandra, keyspace = "parley" } = this.options;
    const { settings = {}, folder, host = "127.0.0.1", replication = 1 } = this.options;
    const own: Readonly<Record<ServiceName, Settings>> = {
      gateway: {
        PARLEY_HOST: host,
        PARLEY_PORT: "0",
        PARLEY_GATEWAY_ID: name,
        PARLEY_JWT_SECRET: this.secret,
      },
      session: {},
      delivery: {},
      presence: {},
      storage: {
        PARLEY_CASSANDRA: cassandra.join(","),
        PARLEY_CASSANDRA_KEYSPACE: keyspace,
        PARLEY_CASSANDRA_REPLICATION: String(replication),
        PARLEY_MEDIA_FOLDER: join(folder, "media"),
      },
    };
    const health =
      service === "gateway" ? {} : { PARLEY_HEALTH_HOST: host, PARLEY_HEALTH_PORT: "0" };
    return {
      PARLEY_ETCD: etcd.join(","),
      PARLEY_ETCD_PREFIX: etcdPrefix,
      PARLEY_MESH_HOST: host,
      PARLEY_MESH_PORT: "0",
      PARLEY_DRAIN_MS: "2000",
      ...health,
      ...own[service],
      ...settings["all"],
      ...settings[service],
      ...settings[name],
    };
  }

  #keepPorts({ name, mesh, health, url }: ClusterProcess): void {
    if (this.#ports.has(name)) return;
    const port = (address: string): string => address.slice(address.lastIndexOf(":") + 1);
    this.#ports.set(name, {
      PARLEY_MESH_PORT: port(mesh),
      ...(url === "" ? { PARLEY_HEALTH_PORT: port(health) } : { PARLEY_PORT: port(health) }),
    });
  }

  /** The command with only these settings in its environment; what it says goes to its log. */
  #spawn(name: string, args: string[], settings: Settings): ChildProcess {
    const { PATH, HOME, TMPDIR } = process.env;
    const env = Object.fromEntries(
      Object.entries({ PATH, HOME, TMPDIR, ...settings }).filter(
        ([, value]) => value !== undefined,
      ),
    );
    const { programs = {} } = this.options;
    const program = programs[name] ?? programs[args[0] ?? ""];
    const tree = this.options.trees?.get(name);
    const command = tree === undefined ? commandFile() : join(tree, "cli/parley.js");
    const [file, given] =
      program === undefined
        ? [process.execPath, [...nodeFlags, command, ...args]]
        : [program, args];
    const child = spawn(file, given, {
      cwd: tree ?? root,
      env,
      stdio: ["ignore", "pipe", "pipe"],
      // Ctrl-C at a terminal reaches the starter, which ends them in its own order.
      detached: true,
    });
    running.add(child);
    child.once("exit", () => running.delete(child));
    const log = createWriteStream(this.logPath(name), { flags: "a" });
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    child.once("close", () => log.end());
    this.options.said?.(`${name} started, pid ${child.pid ?? "none"}`);
    return child;
  }
}

function serviceOf(name: string): ServiceName {
  const service = serviceNames.find((one) => name.startsWith(`${one}-`));
  if (service === undefined)
    throw new Error(`${name} is no name of a process; they are like "gateway-0"`);
  return service;
}

function endOf(child: ChildProcess): Promise<Ended> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve({ code, signal }));
  });
}

/** The line of JSON that a process says when it listens. */
function listeningOf(child: ChildProcess): Promise<Listening> {
  const { stdout } = child;
  if (stdout === null) throw new Error("no standard output");
  return new Promise((resolve, reject) => {
    createInterface({ input: stdout }).on("line", (line) => {
      if (!line.startsWith("{")) return;
      try {
        resolve(parsedListening(JSON.parse(line)));
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    });
  });
}

function parsedListening(parsed: unknown): Listening {
  if (
    typeof parsed !== "object" ||
    parsed === null ||
    !("pid" in parsed && "id" in parsed && "mesh" in parsed && "health" in parsed)
  )
    throw new Error(
      `a process says where it listens in a way of its own: ${JSON.stringify(parsed)}`,
    );
  const { pid, id, mesh, health } = parsed;
  const url = "url" in parsed ? String(parsed.url) : "";
  return { pid: Number(pid), id: String(id), mesh: String(mesh), health: String(health), url };
}

function answerOf(url: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const request = get(url, { agent: false, timeout: 2_000 }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (text: string) => (body += text));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body: body.trim() }));
      response.on("error", reject);
    });
    request.on("timeout", () => request.destroy(new Error(`${url} does not answer`)));
    request.on("error", reject);
  });
}
