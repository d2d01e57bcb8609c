/** The secrets that processes of a cluster are given are in nothing that they print, at the level that logs everything, while whom they were given for is bad. */
import assert from "node:assert/strict";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import type { AddressInfo, Server } from "node:net";
import { once } from "node:events";
import { Readable } from "node:stream";
import { inspect } from "node:util";
import { systemClock } from "../../mesh/clock.ts";
import { createLog } from "../../mesh/log.ts";
import { systemRandom } from "../../mesh/random.ts";
import { openS3Media } from "../../storage/s3.ts";
import { spawnParley } from "../support/server-process.ts";
import { within } from "../support/within.ts";
import { network } from "./ground.ts";

/** Long enough for a process to start on a busy machine, to be refused, and to try again. */
const saysMs = 60_000;

/** What a bad S3 store answers, one after the other: refusals, faults, and the request's own headers sent back. */
const s3Answers = [400, 403, 404, 500, 503] as const;

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

  it("S3's: is in nothing that storage says of a store that refuses, fails and says back what it was told", async () => {
    const signed: string[] = [];
    const store = createHttpServer((request, response) => {
      request.resume().on("error", () => undefined);
      request.once("end", () => {
        signed.push(request.headers.authorization ?? "");
        const status = s3Answers[signed.length % s3Answers.length] ?? 500;
        const said = JSON.stringify(request.rawHeaders);
        response.writeHead(status, { "content-type": "application/xml" });
        response.end(`<Error><Code>Bad</Code><Message>${said}</Message></Error>`);
      });
    });
    store.listen(0, `${network}.0.9`);
    await once(store, "listening");
    const { port } = store.address() as AddressInfo;
    const written: string[] = [];
    const log = createLog({ level: "trace", to: { write: (line) => void written.push(line) } });
    const media = openS3Media(
      {
        bucket: "images",
        endpoint: `http://${network}.0.9:${port}`,
        region: "us-east-1",
        accessKeyId: "parley",
        secretAccessKey: secrets.PARLEY_S3_SECRET_ACCESS_KEY,
      },
      { clock: systemClock, random: systemRandom, log },
    );
    const said: string[] = [];
    const failed = (error: unknown): void => void said.push(inspect(error, { depth: 10 }));
    const mediaId = "0".repeat(64);
    try {
      for (let times = 0; times < s3Answers.length; times += 1) {
        await media.put(Readable.from([Buffer.from("a picture")])).catch(failed);
        await media.get(mediaId, 0, 10)[Symbol.asyncIterator]().next().catch(failed);
        await media.has(mediaId).catch(failed);
        await media.remove(mediaId).catch(failed);
        await media
          .waitForBucket((reason) => said.push(reason), AbortSignal.timeout(500))
          .catch(failed);
      }
    } finally {
      store.closeAllConnections();
      store.close();
    }
    assert.ok(signed.length > 20 && signed.every((one) => one.includes("Credential=parley/")));
    assert.ok(written.length > 0 && said.length > 0);
    const all = [...written, ...said].join("\n");
    const secret = secrets.PARLEY_S3_SECRET_ACCESS_KEY;
    const encoded = Buffer.from(secret).toString("base64").slice(0, -4);
    assert.deepEqual(
      [secret, encoded].filter((one) => all.includes(one)),
      [],
    );
  }).timeout(saysMs);
});
