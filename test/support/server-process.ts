/** `parley start` as a process of its own: started, killed, started again. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { commandFile } from "./command.ts";
import { testSettings } from "./parley.ts";
import type { Settings } from "./parley.ts";
import { root } from "./tree.ts";
import { within } from "./within.ts";

const startMs = 60_000;
const endMs = 20_000;

/** Those that this process started and that are still there: they go when it goes. */
const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly output: string;
}

/** What the process says that it is. */
interface Listening {
  readonly url: string;
  readonly mesh: string;
}

function listeningOf(line: string): Listening | undefined {
  if (!line.startsWith("{")) return undefined;
  const parsed: unknown = JSON.parse(line);
  if (typeof parsed !== "object" || parsed === null) return undefined;
  if (!("url" in parsed) || !("mesh" in parsed)) return undefined;
  return { url: String(parsed.url), mesh: String(parsed.mesh) };
}

/** The command with only these settings in its environment. */
export function spawnParley(
  args: string[],
  settings: Settings,
  input: "ignore" | "pipe" = "ignore",
): ChildProcess {
  const { PATH, HOME, TMPDIR } = process.env;
  const env = Object.fromEntries(
    Object.entries({ PATH, HOME, TMPDIR, ...settings }).filter(([, value]) => value !== undefined),
  );
  const child = spawn(process.execPath, [commandFile(), ...args], {
    cwd: root,
    env,
    stdio: [input, "pipe", "pipe"],
  });
  running.add(child);
  child.once("exit", () => running.delete(child));
  return child;
}

export class ServerProcess {
  readonly ended: Promise<Ended>;
  #listening: Listening = { url: "", mesh: "" };
  #output = "";
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
    const add = (chunk: Buffer): void => void (this.#output += chunk.toString());
    child.stdout?.on("data", add);
    child.stderr?.on("data", add);
    this.ended = new Promise((resolve) => {
      child.once("close", (code, signal) => resolve({ code, signal, output: this.#output }));
    });
  }

  /** Resolves when it listens; rejects, with all that it said, when it ends before that. */
  static async start(data: string, settings: Settings = {}): Promise<ServerProcess> {
    const child = spawnParley(["start", "--json"], testSettings(data, settings));
    const server = new ServerProcess(child);
    if (child.stdout === null) throw new Error("no standard output");
    const lines = createInterface({ input: child.stdout });
    const said = new Promise<Listening>((resolve, reject) => {
      lines.on("line", (line) => {
        const listening = listeningOf(line);
        if (listening !== undefined) resolve(listening);
      });
      server.ended.then(
        ({ code, output }) => reject(new Error(`it ended with code ${code}: ${output}`)),
        reject,
      );
    });
    server.#listening = await within(startMs, "the server's address", said);
    return server;
  }

  /** Runs it where it cannot start, and answers with what it said. */
  static run(settings: Settings): Promise<Ended> {
    const server = new ServerProcess(spawnParley(["start", "--json"], settings));
    return within(endMs, "the end of the process", server.ended).finally(() =>
      server.#child.kill("SIGKILL"),
    );
  }

  get url(): string {
    return this.#listening.url;
  }

  get meshUrl(): string {
    return `http://${this.#listening.mesh}`;
  }

  get alive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get output(): string {
    return this.#output;
  }

  end(signal: NodeJS.Signals): Promise<Ended> {
    this.#child.kill(signal);
    return within(endMs, `the end by ${signal}`, this.ended);
  }
}
