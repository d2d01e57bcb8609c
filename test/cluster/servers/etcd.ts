/** Real etcd on this machine: one member or several, that can be killed, frozen and started again. */
import { execFile, execFileSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { root } from "../../support/tree.ts";
import { asked } from "../../support/within.ts";

const run = promisify(execFile);
const scripts = join(root, "test/cluster/servers/etcd");
const startMs = 60_000;

/** Why there is no etcd on this machine; undefined: there is one, built now if it was not before, which takes minutes. */
export async function whyNoEtcd(): Promise<string | undefined> {
  try {
    await run(join(scripts, "install.sh"));
    return undefined;
  } catch (error) {
    const said = error instanceof Error && "stderr" in error ? String(error.stderr) : String(error);
    return `etcd cannot be built: ${said.trim().split("\n").at(-1) ?? ""}`;
  }
}

interface Member {
  readonly address: string;
  readonly folder: string;
}

/** Those that this process started: they go when it goes. */
const started = new Set<Etcd>();
process.once("exit", () => {
  for (const etcd of started) etcd.abandon();
});

export class Etcd {
  readonly #folder: string;
  readonly #members: readonly Member[];
  readonly #tls: string | undefined;

  private constructor(folder: string, addresses: readonly string[], tls: string | undefined) {
    this.#folder = folder;
    this.#tls = tls;
    this.#members = addresses.map((address) => ({ address, folder: join(folder, address) }));
  }

  /**
   * Members of those loopback addresses, in a folder of their own; they answer when it resolves. With files as the test's authority writes
   * them in the folder `tls`, they do by TLS alone, and ask for a certificate.
   */
  static async start(addresses: readonly string[], tls?: string): Promise<Etcd> {
    const etcd = new Etcd(await mkdtemp(join(tmpdir(), "parley-etcd-")), addresses, tls);
    started.add(etcd);
    try {
      await etcd.startAll();
      return etcd;
    } catch (error) {
      await etcd.remove();
      throw error;
    }
  }

  /** "host:port" of each, in the order in which they were named. */
  get endpoints(): string[] {
    return this.#members.map(({ address }) => `${address}:2379`);
  }

  async startAll(): Promise<void> {
    await Promise.all(this.#members.map((_, at) => this.start(at)));
  }

  /** Resolves when it answers, for which most members are needed. It has the data that it had. */
  async start(at: number): Promise<void> {
    const { folder, address } = this.#member(at);
    const cluster = this.#members.map((member) => member.address).join(",");
    const env = this.#tls === undefined ? process.env : { ...process.env, ETCD_TLS: this.#tls };
    await run(join(scripts, "start.sh"), [folder, address, cluster], { timeout: startMs, env });
  }

  /** As a crash does. */
  async kill(at: number): Promise<void> {
    await this.#stop(at, "KILL");
  }

  async killAll(): Promise<void> {
    await Promise.all(this.#members.map((_, at) => this.kill(at)));
  }

  /** It keeps its connections, and does nothing. */
  freeze(at: number): void {
    process.kill(this.#pid(at), "SIGSTOP");
  }

  thaw(at: number): void {
    process.kill(this.#pid(at), "SIGCONT");
  }

  /** The number of the member that leads. */
  leader(): Promise<number> {
    return asked(startMs, "a leader", async () => {
      const leads = await Promise.all(this.endpoints.map(leading));
      return leads.includes(true) ? leads.indexOf(true) : undefined;
    });
  }

  /** Stops all and removes what they leave. */
  async remove(): Promise<void> {
    await this.killAll();
    started.delete(this);
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** The same, at once, when the process ends. */
  abandon(): void {
    for (const { folder } of this.#members) {
      try {
        execFileSync(join(scripts, "stop.sh"), [folder, "KILL"]);
      } catch {
        // It was never started.
      }
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #stop(at: number, signal: string): Promise<void> {
    await run(join(scripts, "stop.sh"), [this.#member(at).folder, signal]).catch(() => undefined);
  }

  #pid(at: number): number {
    return Number(readFileSync(join(this.#member(at).folder, "pid"), "utf8"));
  }

  #member(at: number): Member {
    const member = this.#members[at];
    if (member === undefined) throw new Error(`there is no member ${at}`);
    return member;
  }
}

/** A call of etcd's API as JSON, in which bytes are base64 and numbers strings. */
export async function callEtcd(endpoint: string, path: string, body: object): Promise<unknown> {
  const response = await fetch(`http://${endpoint}/v3/${path}`, {
    method: "POST",
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(2_000),
  });
  const said = await response.json();
  if (!response.ok) throw new Error(`${path}: ${JSON.stringify(said)}`);
  return said;
}

/** Undefined: it does not answer. */
async function leading(endpoint: string): Promise<boolean | undefined> {
  try {
    const said = (await callEtcd(endpoint, "maintenance/status", {})) as {
      leader?: string;
      header?: { member_id?: string };
    };
    return said.leader !== undefined && said.leader === said.header?.member_id;
  } catch {
    return undefined;
  }
}
