/** A real S3-compatible server on this machine, in memory: moto. */
import { execFile, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { root } from "../../support/tree.ts";
import { asked } from "../../support/within.ts";

const run = promisify(execFile);
const install = join(root, "test/cluster/servers/s3/install.sh");
const installMs = 10 * 60_000;
const startMs = 60_000;

/** Why there is no such server on this machine; undefined: there is one, installed now if it was not before. */
export async function whyNoS3(): Promise<string | undefined> {
  try {
    await run(install, { timeout: installMs });
    return undefined;
  } catch (error) {
    const said = error instanceof Error && "stderr" in error ? String(error.stderr) : String(error);
    return `moto cannot be installed: ${said.trim().split("\n").at(-1) ?? ""}`;
  }
}

export class S3Server {
  readonly host: string;
  readonly port: number;
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess, host: string, port: number) {
    this.#process = process;
    this.host = host;
    this.port = port;
  }

  /** Has no bucket. Answers when it resolves. `port` 0: one that is free. */
  static async start(host: string, port = 0): Promise<S3Server> {
    const { stdout } = await run(install, { timeout: installMs });
    const at = port === 0 ? await freePort(host) : port;
    const child = spawn("python3", ["-m", "moto.server", "-H", host, "-p", String(at)], {
      env: { ...process.env, PYTHONPATH: stdout.trim() },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    child.stderr.on("data", (data: Buffer) => (said = (said + data.toString()).slice(-4_096)));
    const abandon = (): void => void child.kill("SIGKILL");
    process.once("exit", abandon);
    child.once("exit", () => process.off("exit", abandon));
    const server = new S3Server(child, host, at);
    await asked(startMs, "moto to answer", async () => {
      if (child.exitCode !== null) throw new Error(`moto ended: ${said}`);
      return fetch(server.endpoint).then(
        ({ ok }) => (ok ? true : undefined),
        () => undefined,
      );
    });
    return server;
  }

  get endpoint(): string {
    return `http://${this.host}:${this.port}`;
  }

  async makeBucket(name: string): Promise<void> {
    const { ok, status } = await fetch(`${this.endpoint}/${name}`, { method: "PUT" });
    if (!ok) throw new Error(`no bucket ${name}: ${status}`);
  }

  /** Keys in a bucket. */
  async keys(bucket: string): Promise<string[]> {
    const answer = await fetch(`${this.endpoint}/${bucket}?list-type=2`);
    const text = await answer.text();
    return Array.from(text.matchAll(/<Key>([^<]*)<\/Key>/g), ([, key = ""]) => key);
  }

  /** Brings all that is in a bucket to another store's, as `aws s3 sync` would. */
  async copyTo(other: S3Server, bucket: string): Promise<void> {
    const [from, to] = [this.#client(), other.#client()];
    for (const key of await this.keys(bucket)) {
      const { Body } = await from.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
      const bytes = await Body?.transformToByteArray();
      if (bytes === undefined || bytes.length === 0) throw new Error(`${key} is empty`);
      await to.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: bytes }));
    }
    from.destroy();
    to.destroy();
  }

  #client(): S3Client {
    const credentials = { accessKeyId: "key", secretAccessKey: "secret" };
    const { endpoint } = this;
    return new S3Client({ region: "us-east-1", endpoint, forcePathStyle: true, credentials });
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await ended;
  }
}

async function freePort(host: string): Promise<number> {
  const server = createServer().listen(0, host);
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no address");
  return address.port;
}
