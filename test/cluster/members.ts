/** Real Cassandra on this machine, each node started, ended and killed by itself. Scripts do the work; what is stored there it must not know. */
import { execFile, execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { newFolder } from "../support/parley.ts";
import { root } from "../support/tree.ts";

const run = promisify(execFile);

export type Kind = "etcd" | "cassandra";

const ports: Readonly<Record<Kind, number>> = { etcd: 2_379, cassandra: 9_042 };
/** From nothing, over the network, on a small machine. */
const installMs = 20 * 60_000;
/** Longer than their scripts wait, which say more. */
const startMs = 10 * 60_000;

const script = (kind: Kind, name: string): string =>
  join(root, "test", "cluster", "servers", kind, `${name}.sh`);

/** Why these servers cannot be had on this machine; undefined: they are there now. */
export async function lackOf(kind: Kind): Promise<string | undefined> {
  try {
    await run(script(kind, "install"), [], { timeout: installMs, maxBuffer: 64 * 1_024 * 1_024 });
    return undefined;
  } catch (error) {
    return `${kind} cannot be installed here: ${lastLineOf(error)}`;
  }
}

function lastLineOf(error: unknown): string {
  const said =
    typeof error === "object" && error !== null && "stderr" in error ? String(error.stderr) : "";
  const last = said.trim().split("\n").at(-1) ?? "";
  return last === "" ? (String(error).split("\n")[0] ?? "") : last;
}

/** Those that this process started: they go when it goes. */
const started = new Set<Members>();
process.once("exit", () => {
  for (const members of started) members.abandon();
});

export class Members {
  readonly kind: Kind;
  readonly addresses: readonly string[];
  readonly #folder: Awaited<ReturnType<typeof newFolder>>;
  readonly #env: (at: number) => NodeJS.ProcessEnv;

  private constructor(
    kind: Kind,
    addresses: readonly string[],
    folder: Awaited<ReturnType<typeof newFolder>>,
    env: (at: number) => NodeJS.ProcessEnv,
  ) {
    this.#env = (at) => ({ ...process.env, ...env(at) });
    this.kind = kind;
    this.addresses = addresses;
    this.#folder = folder;
  }

  /** All at once; resolves when they answer. `env`: what their script may be told besides, all of them or each by its place. */
  static async start(
    kind: Kind,
    addresses: readonly string[],
    env: NodeJS.ProcessEnv | ((at: number) => NodeJS.ProcessEnv) = {},
  ): Promise<Members> {
    const envOf = typeof env === "function" ? env : () => env;
    const members = new Members(kind, addresses, await newFolder(), envOf);
    started.add(members);
    try {
      await Promise.all(addresses.map((_, at) => members.start(at)));
    } catch (error) {
      await members.close();
      throw error;
    }
    return members;
  }

  /** "host:port" of each. */
  get endpoints(): readonly string[] {
    return this.addresses.map((address) => `${address}:${ports[this.kind]}`);
  }

  /** With what it has stored; resolves when it answers. */
  async start(at: number): Promise<void> {
    const args = [this.folderOf(at), this.#addressOf(at), this.addresses.join(",")];
    await run(script(this.kind, "start"), args, { timeout: startMs, env: this.#env(at) });
  }

  /** Resolves when it is gone. */
  async end(at: number, signal: "TERM" | "KILL" = "TERM"): Promise<void> {
    await run(script(this.kind, "stop"), [this.folderOf(at), signal], { timeout: startMs });
  }

  /** Ends all, and removes what they stored. */
  async close(): Promise<void> {
    await Promise.allSettled(this.addresses.map((_, at) => this.end(at, "KILL")));
    started.delete(this);
    await this.#folder.remove();
  }

  /** The same, at once, when the process ends. */
  abandon(): void {
    for (const [at] of this.addresses.entries()) {
      try {
        execFileSync(script(this.kind, "stop"), [this.folderOf(at), "KILL"], { stdio: "ignore" });
      } catch {
        // It was never started.
      }
    }
    rmSync(this.#folder.path, { recursive: true, force: true });
  }

  /** What it has on disk. */
  folderOf(at: number): string {
    return join(this.#folder.path, String(at));
  }

  #addressOf(at: number): string {
    const address = this.addresses[at];
    if (address === undefined) throw new Error(`there is no member ${at}`);
    return address;
  }
}
