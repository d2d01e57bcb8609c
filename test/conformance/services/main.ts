/** `npm run conformance -- --service presence --address HOST:PORT`: tries whether a running process, in whichever language, keeps to the contract of a service. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { serviceNames } from "../../../mesh/directory.ts";
import type { CertificateFiles } from "../../../mesh/grpc/certificates.ts";
import type { Settings } from "../../support/parley.ts";
import type { Played } from "./contract.ts";
import { contracts } from "./contracts.ts";
import { within } from "../../support/within.ts";
import { Ground } from "./ground.ts";
import { endTitle } from "./process.ts";

const usage = `npm run conformance -- --service ${serviceNames.join("|")} --address HOST:PORT [--clients HOST:PORT] [--etcd HOST:PORT]
    [--cert FILE --key FILE --ca FILE] [-- COMMAND...]

  --address  where the process under test listens for gRPC
  --clients  where a gateway under test listens for clients; 127.0.0.1:8080 if not given
  --etcd     where the suite listens as etcd; 127.0.0.1:2390 if not given
  --cert, --key, --ca  PEM files: what all of them show one another; without, nothing is encrypted
  COMMAND    starts the process, with its settings in the environment; without one, start it yourself`;

const caseMs = 60_000;

const { values, positionals: command } = parseArgs({
  options: {
    service: { type: "string" },
    address: { type: "string" },
    clients: { type: "string", default: "127.0.0.1:8080" },
    etcd: { type: "string", default: "127.0.0.1:2390" },
    cert: { type: "string" },
    key: { type: "string" },
    ca: { type: "string" },
  },
  allowPositionals: true,
});

const placeOf = (address: string): [host: string, port: string] => {
  const at = address.lastIndexOf(":");
  return [address.slice(0, at), address.slice(at + 1)];
};

function clientSettings(clients: string): Settings {
  const [host, port] = placeOf(clients);
  return { PARLEY_HOST: host, PARLEY_PORT: port };
}

/** Relative to where the command is typed. */
function certificates(): CertificateFiles | undefined {
  const { cert, key, ca } = values;
  if (cert === undefined || key === undefined || ca === undefined) return undefined;
  return { certFile: resolve(cert), keyFile: resolve(key), caFile: resolve(ca) };
}

async function main(): Promise<number> {
  const { service, address, clients, etcd } = values;
  const contract = Object.values(contracts).find(({ name }) => name === service);
  if (contract === undefined || address === undefined || !address.includes(":")) {
    console.error(usage);
    return 2;
  }
  const [host, port] = placeOf(etcd);
  const ground = await Ground.open(host, Number(port), certificates());
  const played = await contract.play(ground);
  const [meshHost, meshPort] = placeOf(address);
  const settings: Settings = {
    ...ground.settings,
    PARLEY_MESH_HOST: meshHost,
    PARLEY_MESH_PORT: meshPort,
    ...(contract.name === "gateway" ? clientSettings(clients) : {}),
    ...contract.settings,
  };
  const child = command.length === 0 ? undefined : started(command, settings);
  if (child === undefined) {
    console.log("Waiting for a process that was started with");
    for (const [name, value] of Object.entries(settings)) console.log(`  ${name}=${value}`);
  }
  try {
    await played.meet(address, `http://${clients}`);
    return await tried(contract.titles, played, child);
  } finally {
    child?.kill("SIGKILL");
    await played.close();
    await ground.close();
  }
}

function started([name = "", ...args]: readonly string[], settings: Settings): ChildProcess {
  const child = spawn(name, args, {
    env: { ...process.env, ...settings },
    stdio: ["ignore", "ignore", "inherit"],
  });
  process.once("exit", () => child.kill("SIGKILL"));
  return child;
}

/** How many of them it does not keep to, 1 at most: the code that this process ends with. */
async function tried(
  titles: readonly string[],
  played: Played,
  child: ChildProcess | undefined,
): Promise<number> {
  let failed = 0;
  const one = async (title: string, run: () => Promise<void>): Promise<void> => {
    const beganMs = performance.now();
    try {
      await within(caseMs, title, run());
      console.log(`  ok      ${title} (${Math.round(performance.now() - beganMs)} ms)`);
    } catch (error) {
      failed += 1;
      console.log(`  FAILED  ${title}\n${error instanceof Error ? error.stack : String(error)}`);
    }
  };
  for (const title of titles) await one(title, () => played.run(title));
  if (child === undefined) console.log(`  skipped ${endTitle}: the process was not started here`);
  else await one(endTitle, () => played.ends(() => endOf(child)));
  const skipped = child === undefined ? ", 1 skipped" : "";
  const all = titles.length + (child === undefined ? 0 : 1);
  console.log(`${all - failed} passed, ${failed} failed${skipped}`);
  return failed === 0 ? 0 : 1;
}

async function endOf(child: ChildProcess): Promise<void> {
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  const [code, signal]: unknown[] = await ended;
  if (code !== 0) throw new Error(`it ended with ${String(code ?? signal)}, not 0`);
}

process.exitCode = await main();
