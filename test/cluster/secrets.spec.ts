/** The secrets that processes of a cluster are given are in nothing that they print, at the level that logs everything, while whom they were given for is bad. */
import assert from "node:assert/strict";
import { createServer } from "node:net";
import type { AddressInfo, Server } from "node:net";
import { once } from "node:events";
import { spawnParley } from "../support/server-process.ts";
import { within } from "../support/within.ts";
import { network } from "./ground.ts";

/** Long enough for a process to start on a busy machine, to be refused, and to try again. */
const saysMs = 60_000;

const secrets = {
  PARLEY_JWT_SECRET: "Schweinebraten-Schweinebraten-Schweinebraten",
  PARLEY_ETCD_PASSWORD: "Kaiserschmarrn",
  PARLEY_CASSANDRA_PASSWORD: "Marillenknoedel",
  PARLEY_S3_SECRET_ACCESS_KEY: "Zwetschgendatschi",
} as const;

/** Which of them each command takes, and what else it needs. */
const commands: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  gateway: { PARLEY_JWT_SECRET: secrets.PARLEY_JWT_SECRET, PARLEY_PORT: "0" },
  session: {},
  delivery: {},
  presence: {},
  storage: {
    PARLEY_CASSANDRA_USERNAME: "parley",
    PARLEY_CASSANDRA_PASSWORD: secrets.PARLEY_CASSANDRA_PASSWORD,
    PARLEY_S3_BUCKET: "images",
    PARLEY_S3_ACCESS_KEY_ID: "parley",
    PARLEY_S3_SECRET_ACCESS_KEY: secrets.PARLEY_S3_SECRET_ACCESS_KEY,
  },
  migrate: {
    PARLEY_CASSANDRA_USERNAME: "parley",
    PARLEY_CASSANDRA_PASSWORD: secrets.PARLEY_CASSANDRA_PASSWORD,
  },
};

describe("secrets of processes", () => {
  let bad: Server;
  let address: string;

  before(async () => {
    // Takes connections, and answers what no protocol has.
    bad = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.once("data", () => socket.end("nothing that is expected\r\n\r\n"));
    });
    bad.listen(0, `${network}.0.9`);
    await once(bad, "listening");
    const { port } = bad.address() as AddressInfo;
    address = `${network}.0.9:${port}`;
  });
  after(() => {
    bad.close();
  });

  for (const [command, given] of Object.entries(commands)) {
    it(`${command}: are in nothing that it prints`, async function () {
      this.timeout(2 * saysMs);
      const isMigrate = command === "migrate";
      const settings = {
        ...given,
        ...(isMigrate
          ? {}
          : {
              PARLEY_ETCD: address,
              PARLEY_ETCD_USERNAME: "parley",
              PARLEY_ETCD_PASSWORD: secrets.PARLEY_ETCD_PASSWORD,
              PARLEY_MESH_PORT: "0",
              PARLEY_LOG_LEVEL: "trace",
              ...(command === "gateway" ? {} : { PARLEY_HEALTH_PORT: "0" }),
            }),
        ...("PARLEY_CASSANDRA_PASSWORD" in given ? { PARLEY_CASSANDRA: address } : {}),
        ...(command === "storage" ? { PARLEY_S3_ENDPOINT: `http://${address}` } : {}),
      };
      const child = spawnParley([command], settings);
      let output = "";
      const refused = new Promise<void>((resolve) => {
        const add = (chunk: Buffer): void => {
          output += chunk.toString();
          // That it does not get on.
          if (/"level":"(warn|error)"|^parley: /m.test(output)) resolve();
        };
        child.stdout?.on("data", add);
        child.stderr?.on("data", add);
        child.once("close", () => resolve());
      });
      try {
        await within(saysMs, "what it says of its trouble", refused);
      } catch (cause) {
        throw new Error(`it said: ${output}`, { cause });
      } finally {
        child.kill("SIGKILL");
      }
      assert.match(output, isMigrate ? /cassandra/i : /etcd|directory/i);
      assert.deepEqual(
        Object.values(secrets).filter((secret) => output.includes(secret)),
        [],
      );
    });
  }
});
