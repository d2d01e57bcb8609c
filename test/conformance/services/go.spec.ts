/** Presence in Go keeps to the contract of presence: tried by the command that anybody would use. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { connect } from "node:tls";
import { meshName } from "../../../mesh/grpc/certificates.ts";
import { TestCa } from "../../support/ca.ts";
import { buildGoPresence } from "../../support/go.ts";
import { root } from "../../support/tree.ts";
import { type Settings, newFolder } from "../../support/parley.ts";
import { asked } from "../../support/within.ts";
import { contracts } from "./contracts.ts";
import { Ground, prefix } from "./ground.ts";
import { startOwn } from "./own.ts";

const host = `${process.env["TEST_NETWORK"] ?? "127.50"}.9.3`;

const command = ["--import", "tsx", "test/conformance/services/main.ts"];

/** What the command says, and the code that it ends with. */
function tried(args: readonly string[]): Promise<{ code: number; said: string }> {
  const env = { ...process.env, PARLEY_HEALTH_HOST: host, PARLEY_HEALTH_PORT: "0" };
  return new Promise((resolve) => {
    const options = { cwd: root, env, timeout: 600_000 };
    execFile(process.execPath, [...command, ...args], options, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), said: stdout + stderr }),
    );
  });
}

interface Child {
  readonly health: Promise<string>;
  kill(): void;
}

function started(program: string, address: string, settings: Settings): Child {
  const [meshHost = "", port = ""] = address.split(":");
  const { PATH } = process.env;
  const places = { PARLEY_MESH_HOST: meshHost, PARLEY_MESH_PORT: port };
  const child = spawn(program, {
    env: { PATH, ...places, PARLEY_HEALTH_HOST: host, PARLEY_HEALTH_PORT: "0", ...settings },
    stdio: ["ignore", "pipe", "ignore"],
  });
  const health = new Promise<string>((resolve) => {
    createInterface({ input: child.stdout }).once("line", (line) => {
      resolve((JSON.parse(line) as { health: string }).health);
    });
  });
  return { health, kill: () => void child.kill("SIGKILL") };
}

async function readyz({ health }: Child): Promise<{ status: number; text: string }> {
  const response = await fetch(`${await health}/readyz`);
  return { status: response.status, text: await response.text() };
}

/** Connects, and resolves with the first that the server says. */
function answered(address: string, shows: { cert?: string; key?: string } = {}): Promise<string> {
  const [of = "", port = ""] = address.split(":");
  return new Promise((resolve, reject) => {
    const options = { host: of, port: Number(port), servername: meshName, ALPNProtocols: ["h2"] };
    // Whom it trusts is not what is looked at here.
    const socket = connect({ ...options, ...shows, rejectUnauthorized: false });
    socket.once("data", (data) => {
      resolve(data.toString("latin1"));
      socket.destroy();
    });
    socket.once("error", reject);
    socket.setTimeout(10_000, () => socket.destroy(new Error("it says nothing")));
  });
}

/** The serial number of the certificate that it shows. */
function shown(address: string): Promise<string> {
  const [of = "", port = ""] = address.split(":");
  return new Promise((resolve, reject) => {
    const options = { host: of, port: Number(port), servername: meshName, ALPNProtocols: ["h2"] };
    const socket = connect({ ...options, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.once("error", reject);
  });
}

describe("presence in Go", () => {
  let program: string;
  let folder: Awaited<ReturnType<typeof newFolder>>;
  let ca: TestCa;

  before(async function () {
    this.timeout(900_000);
    const built = buildGoPresence();
    if (built.lack !== undefined) {
      console.log(`      skipped: ${built.lack}`);
      this.skip();
    }
    ({ program } = built);
    folder = await newFolder();
    ca = await TestCa.create();
  });
  after(() => folder?.remove());

  const passes = async (...more: string[]): Promise<void> => {
    const places = ["--address", `${host}:9190`, "--etcd", `${host}:2390`];
    const { code, said } = await tried([
      "--service",
      "presence",
      ...places,
      ...more,
      "--",
      program,
    ]);
    const passed = contracts.presence.titles.length + 1;
    assert.match(said, new RegExp(`^${passed} passed, 0 failed$`, "m"), said);
    assert.equal(code, 0);
  };

  it("keeps to the contract of presence", async function () {
    this.timeout(300_000);
    await passes();
  });

  it("keeps to it among neighbours that speak TLS", async function () {
    this.timeout(300_000);
    const { certFile, keyFile, caFile } = await ca.write(folder.path);
    await passes("--cert", certFile, "--key", keyFile, "--ca", caFile);
  });

  it("lets in who shows a certificate of its authority, says why others are refused, and reads its own again", async function () {
    this.timeout(120_000);
    const files = await ca.write(folder.path);
    const ground = await Ground.open(host, 0, files);
    const played = await contracts.presence.play(ground);
    const address = `${host}:9191`;
    const child = started(program, address, { ...ground.settings, ...contracts.presence.settings });
    try {
      await played.meet(address, "");
      const other = await TestCa.create("Another CA");
      assert.match(await answered(address), /no certificate was shown/);
      assert.match(await answered(address, await other.issue()), /the certificate is not valid/);
      const nameless = await ca.issue({ names: ["other.mesh"] });
      assert.match(await answered(address, nameless), /lacks the name parley\.mesh/);
      assert.doesNotMatch(await answered(address, await ca.issue()), /refuses/);
      await ca.write(folder.path);
      const next = new X509Certificate(await readFile(files.certFile)).serialNumber;
      await asked(20_000, "the next certificate", async () =>
        (await shown(address)) === next ? true : undefined,
      );
      // What cannot be used does not take its place.
      await writeFile(files.certFile, "none");
      await asked(20_000, "a warning", async () => {
        const { status, text } = await readyz(child);
        return status === 200 && /warning: .*stays in use/.test(text) ? true : undefined;
      });
      assert.equal(await shown(address), next);
    } finally {
      child.kill();
      await played.close();
      await ground.close();
    }
  });

  it("is not announced with a certificate that has expired, and says why", async function () {
    this.timeout(120_000);
    const files = await ca.write(folder.path, { fromMs: -7_200_000, untilMs: -3_600_000 });
    const ground = await Ground.open(host, 0);
    const child = started(program, `${host}:9192`, {
      ...ground.settings,
      PARLEY_ETCD_PREFIX: prefix,
      PARLEY_TLS_CERT_FILE: files.certFile,
      PARLEY_TLS_KEY_FILE: files.keyFile,
      PARLEY_TLS_CA_FILE: files.caFile,
    });
    try {
      await asked(20_000, "a reason", async () => {
        const { status, text } = await readyz(child);
        return status === 503 && /expired on/.test(text) ? true : undefined;
      });
      assert.deepEqual(ground.directory.instances("presence").present, []);
    } finally {
      child.kill();
      await ground.close();
    }
  });

  it("counts under the names that ours does", async function () {
    this.timeout(120_000);
    const ground = await Ground.open(host, 0);
    const played = await contracts.presence.play(ground);
    const counted = { ...contracts.presence.settings, PARLEY_METRICS_HOST: host };
    const own = await startOwn("presence", ground, { ...counted, PARLEY_METRICS_PORT: "9193" });
    const address = `${host}:9194`;
    const child = started(program, address, {
      ...ground.settings,
      ...counted,
      PARLEY_METRICS_PORT: "9195",
    });
    try {
      await played.meet(address, "");
      const names = async (port: number): Promise<string[]> => {
        const text = await (await fetch(`http://${host}:${port}/metrics`)).text();
        const found = [...text.matchAll(/^# TYPE ((?:parley|process)_\w+) /gm)];
        return found.map(([, name = ""]) => name).sort();
      };
      const ours = (await names(9193)).filter((name) => name.startsWith("parley_"));
      assert.ok(ours.includes("parley_presence_people"), ours.join());
      const its = await names(9195);
      assert.deepEqual(
        ours.filter((name) => !its.includes(name)),
        [],
      );
      assert.ok(its.includes("process_resident_memory_bytes"));
      const text = await (await fetch(`http://${host}:9195/metrics`)).text();
      assert.match(text, /^parley_ready 1$/m);
      assert.match(text, /^parley_streams\{stream="presence to session"\} 1$/m);
      assert.match(text, /^parley_lease_age_seconds \d/m);
    } finally {
      child.kill();
      await own.stop();
      await played.close();
      await ground.close();
    }
  });
});

describe("npm run conformance", () => {
  it("says how it is used, and ends with a code, where it is used otherwise", async function () {
    this.timeout(60_000);
    for (const args of [[], ["--service", "kitchen", "--address", `${host}:1`]]) {
      const { code, said } = await tried(args);
      assert.equal(code, 2);
      assert.match(
        said,
        /--service gateway\|session\|delivery\|presence\|storage --address HOST:PORT/,
      );
    }
  });
});
