/** `parley gateway`, `session`, `delivery`, `presence`, `storage`: one process of a cluster each, until it is told to stop. `parley migrate`: the schema. */
import type { Command } from "commander";
import { deliveryCommand } from "../delivery/main.ts";
import { gatewayCommand } from "../gateway/main.ts";
import { systemClock } from "../mesh/clock.ts";
import { EnvReader, type Setting } from "../mesh/env.ts";
import { openEtcdDirectory } from "../mesh/etcd/directory.ts";
import { createLog } from "../mesh/log.ts";
import type { Command as ServiceCommand } from "../mesh/process.ts";
import { settingsPrefix } from "../mesh/process-config.ts";
import { systemRandom } from "../mesh/random.ts";
import { presenceCommand } from "../presence/main.ts";
import { sessionCommand } from "../session/main.ts";
import { cassandraConfig, migrate } from "../storage/index.ts";
import { storageCommand } from "../storage/main.ts";
import { addSettings, settingValues } from "./settings.ts";

const purposes: readonly (readonly [ServiceCommand, string])[] = [
  [gatewayCommand, "run a gateway of a cluster: clients connect to it"],
  [sessionCommand, "run a session process of a cluster: who is reachable where"],
  [deliveryCommand, "run a delivery process of a cluster: order, commit, fan-out"],
  [presenceCommand, "run a presence process of a cluster: who is online"],
  [storageCommand, "run a storage process of a cluster, over Cassandra"],
];

export const serviceCommands = purposes.map(([service]) => service);

/** Of `parley migrate`. */
export function migrateSettings(): readonly Setting[] {
  const read = new EnvReader({}, settingsPrefix);
  cassandraConfig(read);
  return read.settings;
}

export function addProcesses(program: Command): void {
  for (const [service, purpose] of purposes) {
    const command = program.command(service.name).description(purpose);
    addSettings(command, service.settings);
    command.option("--json", "say where it listens as a line of JSON");
    command.action((flags: { json?: true }) => run(service, command, flags.json === true));
  }
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
