/** `parley start`: the whole service in this process, until it is told to stop. */
import type { Command } from "commander";
import { ownSecretPath, parleyConfig, parleySettings, startParley } from "../embedded/index.ts";
import { createLog } from "../mesh/log.ts";
import { addSettings, settingValues } from "./settings.ts";

export function addStart(program: Command): void {
  const command = program.command("start").description("run the whole service in this process");
  addSettings(command, parleySettings());
  command.option("--json", "say where it listens as a line of JSON");
  command.action(async (flags: Record<string, string | true | undefined>) => start(command, flags));
}

async function start(
  command: Command,
  flags: Record<string, string | true | undefined>,
): Promise<void> {
  const config = parleyConfig(settingValues(command));
  // The output is for people or for --json; the log has a way of its own.
  const log = createLog({ level: config.logLevel, to: process.stderr });
  const parley = await startParley(config, { log });
  const { host } = config.gateway;
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${parley.port}`;
  const mesh = `${config.meshHost}:${parley.meshPort}`;
  if (flags["json"]) {
    console.log(JSON.stringify({ url, mesh, data: config.dataDirectory, pid: process.pid }));
  } else {
    console.log(`Parley is up.
  page     ${parley.page ? `${url}  (open it in a browser)` : "is not built: npm run build:page"}
  clients  ${url}  (WebSocket at /ws, Connect at /parley.v1.ChatService/)
  gRPC     ${mesh}  (grpcurl -plaintext ${mesh} list)
  data     ${config.dataDirectory}`);
    if (parley.ownSecret) {
      console.log(`  tokens   signed with a secret that it made for itself, ${ownSecretPath(config.dataDirectory)}; it listens on loopback only.
           Make one: npx parley token alice`);
    }
    console.log("Ctrl-C stops it.");
  }
  let stopping = false;
  const stop = (): void => {
    if (stopping) process.exit(130);
    stopping = true;
    parley.close().then(
      () => process.exit(0),
      (error: unknown) => {
        log.error({ err: error }, "it did not stop cleanly");
        process.exit(1);
      },
    );
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
}
