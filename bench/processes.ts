/** Starts and ends the benchmark's processes: server and relay on the first core, the load generator on the second. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { isGeneratorMessage, type Job, type JobResult, type Target } from "./job.ts";
import { nodeFlags } from "./node-flags.ts";
import type { ObservedMessage, Slicing } from "./slices.ts";

const startMs = 60_000;
const stopMs = 10_000;
/** The end of a process's output is kept for its error. */
const outputKept = 4000;

/** Sources run by tsx, or what tsc made of them: whatever this file is. */
const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
/** By `require`, since this may be loaded by it, as tests are, and then knows no other way. */
const loader = (): string[] => {
  if (extension !== "ts") return [];
  const { href } = pathToFileURL(createRequire(import.meta.url).resolve("tsx"));
  return ["--import", href];
};
const fileOf = (name: string): string =>
  fileURLToPath(new URL(`${name}.${extension}`, import.meta.url));

/** Whether processes can be held to a core: needs `taskset` and two cores. */
export const pins = (): boolean =>
  availableParallelism() > 1 && spawnSync("taskset", ["-c", "0", "true"]).status === 0;

export interface Started {
  readonly child: ChildProcess;
  readonly pid: number;
  /** The end of what it said. */
  output(): string;
}

function start(core: number, args: string[], env: NodeJS.ProcessEnv, ipc: boolean): Started {
  const command = [process.execPath, ...nodeFlags, ...loader(), ...args];
  const [file = process.execPath, ...rest] = pins()
    ? ["taskset", "-c", String(core), ...command]
    : command;
  const child = spawn(file, rest, {
    env,
    stdio: ["ignore", "pipe", "pipe", ...(ipc ? ["ipc" as const] : [])],
  });
  let output = "";
  const keep = (text: Buffer): void => {
    output = (output + text.toString()).slice(-outputKept);
  };
  child.stdout?.on("data", keep);
  child.stderr?.on("data", keep);
  child.on("error", (error) => (output += error.message));
  // Nothing that was started here outlives the benchmark, however it ends.
  const kill = (): boolean => child.kill("SIGKILL");
  process.once("exit", kill);
  child.once("exit", () => process.off("exit", kill));
  if (child.pid === undefined) throw new Error(`${file} cannot be started`);
  return { child, pid: child.pid, output: () => output.trim() };
}

const ended = ({ child }: Started): boolean => child.exitCode !== null || child.signalCode !== null;

export async function stop(started: Started): Promise<void> {
  if (ended(started)) return;
  const exit = once(started.child, "exit");
  started.child.kill("SIGTERM");
  const timer = setTimeout(() => started.child.kill("SIGKILL"), stopMs);
  await exit;
  clearTimeout(timer);
}

export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (typeof address !== "object" || address === null) throw new Error("no port is free");
  return address.port;
}

export interface Serving {
  readonly target: Target;
  stop(): Promise<void>;
}

export async function startRelay(): Promise<Serving> {
  const started = start(0, [fileOf("relay")], process.env, true);
  const message: unknown = await Promise.race([
    once(started.child, "message").then(([first]: unknown[]) => first),
    once(started.child, "exit").then(() => undefined),
  ]);
  if (typeof message !== "object" || message === null || !("port" in message)) {
    throw new Error(`the relay did not start: ${started.output()}`);
  }
  return {
    target: { host: "127.0.0.1", port: Number(message.port), secret: "", pid: started.pid },
    stop: () => stop(started),
  };
}

/** A load generator is a flood by trade: the limits for one device would be what is measured. */
const raisedLimits = {
  PARLEY_RATE_PER_SECOND: "1000000",
  PARLEY_BYTES_PER_SECOND: "1073741824",
};

/** The whole of Parley in one process, as `npm start` runs it, with a store in `directory`. */
export async function startParley(
  directory: string,
  secret: string,
  settings: Readonly<Record<string, string>> = {},
): Promise<Serving> {
  const [port, meshPort] = [await freePort(), await freePort()];
  const flags = ["--port", port, "--mesh-port", meshPort, "--data", directory].map(String);
  const env = { ...process.env, ...raisedLimits, PARLEY_JWT_SECRET: secret, ...settings };
  const started = start(0, [fileOf("../cli/main"), "start", ...flags], env, false);
  try {
    await ready(`http://127.0.0.1:${port}/readyz`, started);
  } catch (error) {
    await stop(started);
    throw error;
  }
  return {
    target: { host: "127.0.0.1", port, secret, pid: started.pid },
    stop: () => stop(started),
  };
}

/** One in which being looked at goes on and off. */
export interface Observed extends Serving {
  begin(slicing: Slicing): void;
  /** What was since the beginning. */
  end(): Promise<ObservedMessage & { kind: "slices" }>;
}

export async function startObserved(
  directory: string,
  secret: string,
  settings: Readonly<Record<string, string>>,
): Promise<Observed> {
  const env = { ...process.env, ...raisedLimits, PARLEY_JWT_SECRET: secret, ...settings };
  const own = { PARLEY_PORT: "0", PARLEY_MESH_PORT: "0", PARLEY_DATA: directory };
  const started = start(0, [fileOf("observed")], { ...env, ...own }, true);
  const heard = async (): Promise<ObservedMessage> => {
    const [message]: ObservedMessage[] = await Promise.race([
      once(started.child, "message"),
      once(started.child, "exit").then(() => []),
    ]);
    if (message === undefined) throw new Error(`the server ended: ${started.output()}`);
    return message;
  };
  const listening = await heard();
  if (listening.kind !== "listening") throw new Error("the server says what nobody asked");
  return {
    target: { host: "127.0.0.1", port: listening.port, secret, pid: started.pid },
    begin: (slicing) => void started.child.send(slicing),
    async end() {
      const answer = heard();
      started.child.send({ kind: "end" });
      const slices = await answer;
      if (slices.kind !== "slices") throw new Error("the server says what nobody asked");
      return slices;
    },
    stop: () => stop(started),
  };
}

async function ready(url: string, started: Started): Promise<void> {
  const endMs = performance.now() + startMs;
  for (;;) {
    if (ended(started)) throw new Error(`the server ended at once: ${started.output()}`);
    const status = await fetch(url).then(
      (response) => response.status,
      () => 0,
    );
    if (status === 200) return;
    if (performance.now() > endMs) {
      throw new Error(`${url} did not answer 200 within ${startMs} ms: ${started.output()}`);
    }
    await sleep(50);
  }
}

/** Has a job done by a generator of its own, and waits no longer than `limitMs`. */
export async function generate(
  job: Job,
  limitMs: number,
  progress: (text: string) => void,
): Promise<JobResult> {
  const started = start(1, [fileOf("generator")], process.env, true);
  const timer = setTimeout(() => started.child.kill("SIGKILL"), limitMs);
  try {
    return await new Promise((resolve, reject) => {
      started.child.on("message", (message: unknown) => {
        if (!isGeneratorMessage(message)) return;
        if (message.kind === "progress") progress(message.text);
        else if (message.kind === "result") resolve(message.result);
        else reject(new Error(message.message));
      });
      started.child.on("exit", (code, signal) => {
        const how = signal === "SIGKILL" ? `took longer than ${limitMs} ms` : `ended with ${code}`;
        reject(new Error(`the generator ${how}: ${started.output()}`));
      });
      started.child.send(job);
    });
  } finally {
    clearTimeout(timer);
    await stop(started);
  }
}
