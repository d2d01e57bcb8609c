/** `parley gateway`, `session`, `delivery`, `presence`, `storage`: one process of a cluster each, until it is told to stop. `parley migrate`: the schema. */
import type { Command } from "commander";
import { systemClock } from "../mesh/clock.ts";
import { type ServiceName, serviceNames } from "../mesh/directory.ts";
import { EnvReader, type Setting } from "../mesh/env.ts";
import { openEtcdDirectory } from "../mesh/etcd/directory.ts";
import { createLog } from "../mesh/log.ts";
import type { Command as ServiceCommand } from "../mesh/process.ts";
import { settingsPrefix } from "../mesh/process-config.ts";
import { systemRandom } from "../mesh/random.ts";
import { cassandraConfig, migrate } from "../storage/index.ts";
import { addSettings, settingValues } from "./settings.ts";

interface Service {
  readonly purpose: string;
  /** Loads what the command needs: a process needs not the others' sources. */
  readonly load: () => Promise<ServiceCommand>;
}

const services: Readonly<Record<ServiceName, Service>> = {
  gateway: {
    purpose: "run a gateway of a cluster: clients connect to it",
    load: async () => (await import("../gateway/main.ts")).gatewayCommand,
  },
  session: {
    purpose: "run a session process of a cluster: who is reachable where",
    load: async () => (await import("../session/main.ts")).sessionCommand,
  },
  delivery: {
    purpose: "run a delivery process of a cluster: order, commit, fan-out",
    load: async () => (await import("../delivery/main.ts")).deliveryCommand,
  },
  presence: {
    purpose: "run a presence process of a cluster: who is online",
    load: async () => (await import("../presence/main.ts")).presenceCommand,
  },
  storage: {
    purpose: "run a storage process of a cluster, over Cassandra",
    load: async () => (await import("../storage/main.ts")).storageCommand,
  },
};

export const serviceCommands = (): Promise<ServiceCommand[]> =>
  Promise.all(serviceNames.map((name) => services[name].load()));

/** Of `parley migrate`. */
export function migrateSettings(): readonly Setting[] {
  const read = new EnvReader({}, settingsPrefix);
  cassandraConfig(read);
  return read.settings;
}

export async function addService(program: Command, name: ServiceName): Promise<void> {
  const { purpose, load } = services[name];
  const service = await load();
  const command = program.command(name).description(purpose);
  addSettings(command, service.settings);
  command.option("--json", "say where it listens as a line of JSON");
  command.action((flags: { json?: true }) => run(service, command, flags.json === true));
}

export function addMigrate(program: Command): void {
  const command = program
    .command("migrate")
    .description("make or update the schema in Cassandra; safe to run twice and from two places");
  addSettings(command, migrateSettings());
  command.action(() => runMigrate(command));
}

async function run(service: ServiceCommand, command: Command, json: boolean): Promise<void> {
  const configured = service.configured(settingValues(command));
  const log = createLog({ level: configured.logLevel, to: process.stderr });
  const running = await configured.start({
    log,
    openDirectory: (config, outside, signal) => openEtcdDirectory(config, outside, { signal }),
  });
  const { name, id, mesh, front } = running;
  const health = `http://${front}`;
  if (json) {
    const url = name === "gateway" ? { url: health } : {};
    console.log(JSON.stringify({ service: name, id, mesh, health, ...url, pid: process.pid }));
  } else {
    console.log(`Parley's ${name} listens; ${health}/readyz says when it is ready, and what it waits for.
  gRPC     ${mesh}${name === "gateway" ? `\n  clients  ${health}` : ""}
Ctrl-C drains and stops it; a second one stops it at once.`);
  }
  let stopping = false;
  const stop = (): void => {
    if (stopping) process.exit(130);
    stopping = true;
    void running.stop();
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  running.ended.then(
    () => process.exit(0),
    (error: unknown) => {
      console.error(`parley: ${error instanceof Error ? error.message : String(error)}`);
      process.exit(1);
    },
  );
}

async function runMigrate(command: Command): Promise<void> {
  const read = new EnvReader(settingValues(command), settingsPrefix);
  const config = read.done(cassandraConfig(read));
  const log = createLog({ level: "info", to: process.stderr });
  await migrate(config, { clock: systemClock, random: systemRandom, log });
  console.log(`The schema of keyspace ${config.keyspace} is as this Parley needs it.`);
}
