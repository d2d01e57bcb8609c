/** What the chart installs, run: the real processes with exactly the environment and the arguments that it renders, its probes and its `helm test` asked. Only addresses and folders are this machine's. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Members, lackOf } from "../cluster/members.ts";
import { TestCa } from "../support/ca.ts";
import { newFolder, secret } from "../support/parley.ts";
import { root } from "../support/tree.ts";
import { asked, within } from "../support/within.ts";
import {
  type Container,
  type Pod,
  type Values,
  container,
  manifests,
  pods,
  rendered,
} from "./chart.ts";
import { environment, portOf, probed } from "./pod.ts";
import { runs, tool } from "./tools.ts";

const { lack } = await tool("helm");
if (lack !== "") console.log(`skipped: ${lack}`);

const network = process.env["TEST_NETWORK"] ?? "127.40";
const readyMs = 120_000;

/** A pod of one container on an address of its own. */
class Running {
  readonly pod: Pod;
  readonly one: Container;
  readonly ip: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;
  #said = "";

  constructor(pod: Pod, ip: string, folder: string, secrets: Readonly<Record<string, string>>) {
    this.pod = pod;
    this.one = container(pod);
    this.ip = ip;
    const given = environment(this.one, { name: `${pod.component}-0`, ip, secrets });
    const env = Object.fromEntries(
      Object.entries(given).map(([name, value]) => [name, here(value, ip, this.one, folder)]),
    );
    const { PATH = "" } = process.env;
    this.#child = spawn(process.execPath, ["cli/parley.js", ...(this.one.args ?? [])], {
      cwd: root,
      env: { PATH, TMPDIR: folder, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const keep = (data: Buffer): void => void (this.#said = (this.#said + data).slice(-8_192));
    this.#child.stdout?.on("data", keep);
    this.#child.stderr?.on("data", keep);
    this.#ended = new Promise((resolve, reject) => {
      this.#child.once("error", reject);
      this.#child.once("close", resolve);
    });
  }

  /** Waits for what its probes say, as a kubelet does. */
  async ready(): Promise<void> {
    const { livenessProbe, readinessProbe } = this.one;
    assert.ok(livenessProbe !== undefined && readinessProbe !== undefined, this.pod.of);
    for (const probe of [livenessProbe, readinessProbe]) {
      let last: string | undefined;
      await asked(readyMs, `${this.pod.of} to be ready`, async () => {
        if (this.#child.exitCode !== null) throw new Error(`it ended: ${this.#said}`);
        last = await probed(this.one, probe, this.ip);
        return last === undefined ? true : undefined;
      }).catch((cause: unknown) => {
        throw new Error(`${String(cause)}; ${last ?? ""}; ${this.#said}`, { cause });
      });
    }
  }

  /** As Kubernetes ends a pod. */
  async end(): Promise<number | null> {
    this.#child.kill("SIGTERM");
    const graceMs = (this.pod.spec.terminationGracePeriodSeconds ?? 30) * 1_000;
    return within(graceMs, `${this.pod.of}'s end: ${this.#said}`, this.#ended);
  }

  /** Its end by itself. */
  async done(): Promise<void> {
    assert.equal(await within(readyMs, this.pod.of, this.#ended), 0, this.#said);
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }
}

/** A value on this machine: all addresses of a pod are its one, its volumes are below a folder. */
function here(value: string, ip: string, { volumeMounts = [] }: Container, folder: string): string {
  if (value === "0.0.0.0") return ip;
  const mount = volumeMounts.find(({ mountPath }) => `${value}/`.startsWith(`${mountPath}/`));
  if (mount === undefined) return value;
  return join(folder, mount.name, value.slice(mount.mountPath.length));
}

async function podsOf(values: Values): Promise<Pod[]> {
  return pods(manifests(await rendered(values)));
}

function one(all: readonly Pod[], component: string): Pod {
  const pod = all.find((each) => each.component === component);
  if (pod === undefined) throw new Error(`no pod of ${component}`);
  return pod;
}

/** What `helm test` runs, against a pod instead of the Service before it. */
async function helmTest(all: readonly Pod[], edge: Running): Promise<void> {
  const { command = [], env = [] } = container(one(all, "test"));
  assert.deepEqual(
    env.map(({ name }) => name),
    ["URL"],
  );
  const URL = `http://${edge.ip}:${portOf(edge.one, "clients")}`;
  const { code, output, errors } = await runs(command[0] ?? "", command.slice(1), { URL });
  assert.equal(code, 0, output + errors);
  assert.match(output, /\/readyz: 200\n.*Sync: 401/s);
}

describe("what the chart installs", function () {
  this.timeout(15 * 60_000);
  let folder: Awaited<ReturnType<typeof newFolder>>;
  const running: Running[] = [];

  before(async function () {
    if (lack !== "") return this.skip();
    folder = await newFolder();
  });
  afterEach(() => {
    for (const each of running.splice(0)) each.kill();
  });
  after(() => folder?.remove());

  it("runs as one process: its probes succeed, `helm test` passes, it ends in its time", async () => {
    const all = await podsOf({ jwt: { secret } });
    const edge = new Running(one(all, "embedded"), `${network}.0.1`, folder.path, {
      "parley-jwt/jwt-secret": secret,
    });
    running.push(edge);
    await edge.ready();
    await helmTest(all, edge);
    assert.equal(await edge.end(), 0);
  });

  describe("a cluster", () => {
    const kinds = ["gateway", "session", "delivery", "presence", "storage"];
    const secrets = { "tokens/jwt-secret": secret };
    let etcd: Members | undefined;
    let cassandra: Members | undefined;
    let values: Values;

    before(async function () {
      const found = await Promise.all([lackOf("etcd"), lackOf("cassandra")]);
      const lacks = found.filter((why) => why !== undefined);
      if (lacks.length > 0) {
        console.log(`    skipped: ${lacks.join("; ")}`);
        return this.skip();
      }
      etcd = await Members.start("etcd", [`${network}.1.1`]);
      cassandra = await Members.start("cassandra", [`${network}.1.1`]);
      await mkdir(join(folder.path, "media"), { recursive: true });
      values = {
        mode: "cluster",
        jwt: { existingSecret: "tokens" },
        drainMs: 2_000,
        etcd: { endpoints: etcd.endpoints },
        cassandra: { contactPoints: cassandra.endpoints, replication: 1 },
        media: { existingClaim: "media" },
      };
    });
    after(() => Promise.all([etcd?.close(), cassandra?.close()]));

    function start(all: readonly Pod[], component: string, at: number): Running {
      const process = new Running(one(all, component), `${network}.2.${at}`, folder.path, secrets);
      running.push(process);
      return process;
    }

    async function runsAll(all: readonly Pod[]): Promise<void> {
      const processes = kinds.map((kind, at) => start(all, kind, at + 1));
      await Promise.all(processes.map((process) => process.ready()));
      const [edge] = processes;
      assert.ok(edge !== undefined);
      await helmTest(all, edge);
    }

    async function ends(): Promise<void> {
      for (const process of running) assert.equal(await process.end(), 0, process.pod.of);
    }

    it("runs: the schema, five kinds of processes that all become ready, `helm test`; each has metrics, gateways the one that they are scaled by", async () => {
      const all = await podsOf(values);
      const schema = start(all, "migrate", 1);
      await schema.done();
      running.splice(0);
      await runsAll(all);
      for (const process of running) {
        const answer = await fetch(
          `http://${process.ip}:${portOf(process.one, "metrics")}/metrics`,
        );
        const text = await answer.text();
        assert.match(text, /^parley_ready 1$/m, process.pod.of);
        const isGateway = process.pod.component === "gateway";
        assert.equal(/^parley_gateway_connections 0$/m.test(text), isGateway, process.pod.of);
      }
      await ends();
    });

    it("runs with a mesh that speaks TLS by a given secret, and lets nobody in without a certificate", async () => {
      const certificates = await TestCa.create();
      const place = join(folder.path, "tls");
      await mkdir(place);
      const { cert, key } = await certificates.issue();
      const files = { "tls.crt": cert, "tls.key": key, "ca.crt": certificates.pem };
      for (const [name, text] of Object.entries(files)) await writeFile(join(place, name), text);
      const tls = { enabled: true, existingSecret: "mesh" };
      await runsAll(await podsOf({ ...values, tls }));
      for (const { one, ip } of running)
        assert.notEqual(await probed(one, { grpc: { port: portOf(one, "mesh") } }, ip), undefined);
      await ends();
    });
  });
});
