/** The commands of a cluster: each knows its own settings and refuses others; each waits for what is absent, says so, and ends when it is told to. */
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { serviceCommands } from "../../cli/processes.ts";
import { serviceNames } from "../../mesh/directory.ts";
import type { ServiceName } from "../../mesh/directory.ts";
import { root } from "../support/tree.ts";
import { secret } from "../support/parley.ts";
import type { Settings } from "../support/parley.ts";
import { spawnParley } from "../support/server-process.ts";
import { asked, within } from "../support/within.ts";

const boundMs = 30_000;
/** Nobody listens there. */
const nowhere = "127.73.0.1:1";

/** What each needs to be told. */
const needed: Readonly<Record<ServiceName, Settings>> = {
  gateway: { PARLEY_JWT_SECRET: secret },
  session: {},
  delivery: {},
  presence: {},
  storage: { PARLEY_MEDIA_FOLDER: "/tmp/parley-media" },
};

const commands = await serviceCommands();

function configure(service: ServiceName, settings: Settings): void {
  const command = commands.find(({ name }) => name === service);
  assert.ok(command, `there is no command ${service}`);
  command.configured({ ...needed[service], ...settings });
}

interface Refusal {
  readonly says: string;
  readonly of: ServiceName;
  readonly settings: Settings;
  readonly message: RegExp;
}

const refusals: readonly Refusal[] = [
  {
    says: "a setting of another service",
    of: "session",
    settings: { PARLEY_PRESENCE_GRACE_MS: "1" },
    message: /PARLEY_PRESENCE_GRACE_MS is not a setting/,
  },
  {
    says: "the edge's port where there is no edge",
    of: "delivery",
    settings: { PARLEY_PORT: "8080" },
    message: /PARLEY_PORT is not a setting/,
  },
  {
    says: "a port of health beside the edge",
    of: "gateway",
    settings: { PARLEY_HEALTH_PORT: "9091" },
    message: /PARLEY_HEALTH_PORT is not a setting/,
  },
  {
    says: "the data directory of the one process",
    of: "storage",
    settings: { PARLEY_DATA: "./data" },
    message: /PARLEY_DATA is not a setting/,
  },
  {
    says: "a name with a slip",
    of: "presence",
    settings: { PARLEY_ECTD: nowhere },
    message: /PARLEY_ECTD is not a setting; did you mean PARLEY_ETCD\?/,
  },
  {
    says: "no way to check tokens, on loopback too",
    of: "gateway",
    settings: { PARLEY_JWT_SECRET: "" },
    message: /nothing says how tokens are checked: set PARLEY_JWT_SECRET/,
  },
  {
    says: "a member of etcd without a port",
    of: "session",
    settings: { PARLEY_ETCD: "etcd-1:2379,etcd-2" },
    message: /PARLEY_ETCD: "etcd-2" must be like "host:2379"/,
  },
  {
    says: "no member of etcd",
    of: "session",
    settings: { PARLEY_ETCD: "," },
    message: /PARLEY_ETCD must name one member/,
  },
  {
    says: "a lease that is too short",
    of: "session",
    settings: { PARLEY_LEASE_SECONDS: "1" },
    message: /PARLEY_LEASE_SECONDS must be a whole number from 2 to 60/,
  },
  {
    says: "no shards",
    of: "delivery",
    settings: { PARLEY_SHARDS: "0" },
    message: /PARLEY_SHARDS must be a whole number from 1 to 65536/,
  },
  {
    says: "every address, and none at which it is reached",
    of: "session",
    settings: { PARLEY_MESH_HOST: "0.0.0.0" },
    message: /PARLEY_MESH_HOST is 0\.0\.0\.0.*set PARLEY_ADVERTISE/,
  },
  {
    says: "an address to advertise without a port",
    of: "session",
    settings: { PARLEY_ADVERTISE: "session-1" },
    message: /PARLEY_ADVERTISE must be like "host:9090", not "session-1"/,
  },
  {
    says: "a certificate without its key",
    of: "session",
    settings: { PARLEY_TLS_CERT_FILE: "cert.pem", PARLEY_TLS_CA_FILE: "ca.pem" },
    message: /PARLEY_TLS_KEY_FILE and PARLEY_TLS_CA_FILE belong together: set all or none/,
  },
  {
    says: "no place for media",
    of: "storage",
    settings: { PARLEY_MEDIA_FOLDER: "" },
    message: /one of PARLEY_MEDIA_FOLDER and PARLEY_S3_BUCKET must/,
  },
  {
    says: "two places for media",
    of: "storage",
    settings: { PARLEY_S3_BUCKET: "media" },
    message: /one of PARLEY_MEDIA_FOLDER and PARLEY_S3_BUCKET must/,
  },
];

describe("the settings of a cluster's commands", () => {
  it("are one command for each service", () => {
    assert.deepEqual(
      commands.map(({ name }) => name),
      [...serviceNames],
    );
  });

  for (const service of serviceNames) {
    it(`${service} needs no more than it must`, () => {
      configure(service, {});
      configure(service, { PARLEY_ETCD: "http://etcd-1:2379, [::1]:2379" });
    });
  }

  for (const { says, of, settings, message } of refusals) {
    it(`${of} refuses ${says}`, () => {
      assert.throws(() => configure(of, settings), message);
    });
  }

  it("name all that is wrong at once", () => {
    assert.throws(
      () => configure("storage", { PARLEY_SHARDS: "x", PARLEY_HEALTH_PORT: "-1" }),
      /PARLEY_SHARDS[^]*PARLEY_HEALTH_PORT|PARLEY_HEALTH_PORT[^]*PARLEY_SHARDS/,
    );
  });
});

interface Said {
  readonly service: string;
  readonly id: string;
  readonly mesh: string;
  readonly health: string;
  readonly url?: string;
  readonly pid: number;
}

describe("a cluster's commands without a cluster", function () {
  this.timeout(60_000);

  for (const service of ["gateway", "storage"] as const) {
    it(`${service} listens, waits for etcd, says so, and ends in peace on SIGTERM`, async () => {
      const ports: Settings =
        service === "gateway" ? { PARLEY_PORT: "0" } : { PARLEY_HEALTH_PORT: "0" };
      const child = spawnParley([service, "--json", "--mesh-port", "0"], {
        ...needed[service],
        ...ports,
        PARLEY_ETCD: nowhere,
      });
      const ended = new Promise((resolve) => child.once("close", resolve));
      let logged = "";
      child.stderr?.on("data", (chunk: Buffer) => (logged += chunk.toString()));
      assert.ok(child.stdout);
      const lines = createInterface({ input: child.stdout });
      const line = await within(
        boundMs,
        "its address",
        new Promise<string>((resolve) => lines.once("line", resolve)),
      );
      const said = JSON.parse(line) as Said;
      assert.deepEqual([said.service, said.pid], [service, child.pid]);
      assert.match(said.mesh, /^127\.0\.0\.1:\d+$/);
      assert.equal(said.url, service === "gateway" ? said.health : undefined);

      const answer = await fetch(`${said.health}/readyz`);
      assert.equal(answer.status, 503);
      assert.match(await answer.text(), new RegExp(`it waits for etcd at ${nowhere}`));
      await asked(boundMs, "a line about etcd", () =>
        Promise.resolve(/etcd does not answer/.test(logged) ? true : undefined),
      );
      child.kill("SIGTERM");
      assert.equal(await within(boundMs, "its end", ended), 0);
    });
  }

  it("end with 1 and a sentence where a setting is wrong, and say nothing else", async () => {
    const child = spawnParley(["session", "--shards", "none"], {});
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream?.on("data", (chunk: Buffer) => (output += chunk.toString()));
    const code = await within(
      boundMs,
      "its end",
      new Promise((resolve) => child.once("close", resolve)),
    );
    assert.equal(code, 1);
    assert.equal(
      output.replaceAll(root, ""),
      `parley: the settings are wrong:\n  PARLEY_SHARDS must be a whole number from 1 to 65536, not "none"\n`,
    );
  });

  it("migrate knows Cassandra's settings alone", async () => {
    const child = spawnParley(["migrate"], { PARLEY_ETCD: nowhere });
    let output = "";
    child.stderr?.on("data", (chunk: Buffer) => (output += chunk.toString()));
    const code = await within(
      boundMs,
      "its end",
      new Promise((resolve) => child.once("close", resolve)),
    );
    assert.equal(code, 1);
    assert.match(output, /PARLEY_ETCD is not a setting/);
  });
});
