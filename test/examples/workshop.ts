/** Where an example is built and run as its README says: a copy of what the checkout has of it, and the shell of a reader. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { cp, symlink } from "node:fs/promises";
import { join } from "node:path";
import { blocksOf } from "../support/document.ts";
import { newFolder } from "../support/parley.ts";
import { root, textOf } from "../support/tree.ts";
import { within } from "../support/within.ts";

/** What an example's README has: how it is built, and how it is run. */
export interface Commands {
  readonly build: string;
  readonly run: string;
}

export function commandsOf(readme: string): Commands {
  const [build, run, ...more] = blocksOf(textOf(readme));
  if (build === undefined || run === undefined || more.length > 0)
    throw new Error(`${readme} has other commands than to build and to run`);
  return { build: build.commands, run: run.commands };
}

/** Those that were started here and are still there, each with what it started itself: they go when this process goes. */
const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) signal(child, "SIGKILL");
});

function signal(child: ChildProcess, name: NodeJS.Signals): void {
  if (child.pid === undefined || !running.has(child)) return;
  process.kill(-child.pid, name);
}

/** Commands in a shell of their own, with all that they print. */
export class Commanded {
  output = "";
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;
  #look = (): void => undefined;

  constructor(commands: string, cwd: string, env: Record<string, string>) {
    // What a reader has by npx, of this checkout.
    const bin = join(root, "node_modules/.bin");
    const node = JSON.stringify(process.execPath);
    const npx = `npx() { case $1 in parley) shift; ${node} ${join(root, "cli/parley.js")} "$@";; *) ${bin}/"$@";; esac; }`;
    this.#child = spawn("bash", ["--noprofile", "--norc", "-ec", `${npx}\n${commands}`], {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    running.add(this.#child);
    const add = (chunk: Buffer): void => {
      this.output += chunk.toString();
      this.#look();
    };
    this.#child.stdout?.on("data", add);
    this.#child.stderr?.on("data", add);
    this.ended = new Promise((resolve) => {
      this.#child.once("close", (code) => {
        running.delete(this.#child);
        resolve(code);
      });
    });
  }

  /** Until it has printed this so many times. */
  async prints(pattern: RegExp, times = 1): Promise<void> {
    const printed = new Promise<void>((resolve) => {
      this.#look = () => {
        const found = this.output.match(new RegExp(pattern, "g"));
        if ((found?.length ?? 0) >= times) resolve();
      };
      this.#look();
    });
    await within(60_000, String(pattern), printed).catch((cause: unknown) => {
      throw new Error(`it printed: ${this.output}`, { cause });
    });
  }

  async end(name: NodeJS.Signals): Promise<void> {
    signal(this.#child, name);
    await within(20_000, `the end by ${name}`, this.ended);
  }
}

export interface Workshop {
  readonly path: string;
  run(commands: string, env?: Record<string, string>): Commanded;
  remove(): Promise<void>;
}

/** A folder with the examples and the protocol, as after a clone, and with the development tools. */
export async function newWorkshop(): Promise<Workshop> {
  const folder = await newFolder();
  for (const name of ["buf.yaml", "proto", "examples"])
    await cp(join(root, name), join(folder.path, name), {
      recursive: true,
      filter: (from) => !/\/(\.venv|__pycache__|generated|target)$/.test(from),
    });
  await symlink(join(root, "node_modules"), join(folder.path, "node_modules"));
  return {
    path: folder.path,
    run: (commands, env = {}) => new Commanded(commands, folder.path, env),
    remove: () => folder.remove(),
  };
}
