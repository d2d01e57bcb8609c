/** Cassandra over TLS: nodes are known by their authority and ask for a certificate; what is wrong with either is said, and waited for. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLog } from "../../mesh/log.ts";
import { EnvReader } from "../../mesh/env.ts";
import type { SettingValues } from "../../mesh/env.ts";
import type { CertificateFiles } from "../../mesh/grpc/certificates.ts";
import { connected } from "../../storage/cassandra/connection.ts";
import { cassandraConfig, migrate, openCassandraStore } from "../../storage/index.ts";
import type { CassandraConfig } from "../../storage/index.ts";
import { TestCa } from "../support/ca.ts";
import { asked } from "../support/within.ts";
import { outside } from "./keyspace.ts";
import { Members } from "./members.ts";

const network = process.env["TEST_NETWORK"] ?? "127.50";
const address = `${network}.0.32`;
const mostMs = 60_000;

describe("Cassandra over TLS", function () {
  this.timeout(120_000);
  let folder: string | undefined;
  let node: Members | undefined;
  let ours: CertificateFiles;
  let others: CertificateFiles;

  async function write(name: string, ca: TestCa): Promise<CertificateFiles> {
    const path = join(folder ?? "", name);
    await mkdir(path, { recursive: true });
    return ca.write(path);
  }

  before(async function () {
    this.timeout(300_000);
    folder = await mkdtemp(join(tmpdir(), "parley-cassandra-tls-"));
    const [ca, other] = await Promise.all([TestCa.create(), TestCa.create("Other")]);
    ours = await write("ours", ca);
    others = await write("others", other);
    const { cert, key } = await ca.issue({ names: [address, "node.parley.test"] });
    const path = join(folder, "node");
    await mkdir(path);
    await writeFile(join(path, "node.pem"), `${key}\n${cert}\n`);
    await writeFile(join(path, "ca.crt"), ca.pem);
    node = await Members.start("cassandra", [address], { CASSANDRA_TLS: path });
  });
  after(async function () {
    await node?.close();
    if (folder !== undefined) await rm(folder, { recursive: true });
  });

  function config(settings: SettingValues): CassandraConfig {
    const all = {
      PARLEY_CASSANDRA: `${address}:9042`,
      PARLEY_CASSANDRA_REPLICATION: "1",
      PARLEY_CASSANDRA_KEYSPACE: "tls",
      ...settings,
    };
    const read = new EnvReader(all, "PARLEY_");
    return read.done(cassandraConfig(read));
  }

  const settings = ({ caFile, certFile, keyFile }: CertificateFiles): SettingValues => ({
    PARLEY_CASSANDRA_CA_FILE: caFile,
    PARLEY_CASSANDRA_CERT_FILE: certFile,
    PARLEY_CASSANDRA_KEY_FILE: keyFile,
  });

  it("with the authority and a certificate the schema is made, and the store opened, encrypted", async () => {
    const good = config(settings(ours));
    await migrate(good, outside);
    const store = await openCassandraStore(good, outside);
    assert.deepEqual(store.problems(), []);
    await store.close();
    const client = await connected(good, outside);
    const { rows } = await client.execute("SELECT ssl_enabled FROM system_views.clients", [], {
      prepare: false,
    });
    await client.shutdown();
    assert.ok(rows.length > 0);
    assert.ok(rows.every((row) => row.get("ssl_enabled") === true));
  });

  it("a name that all nodes' certificates have stands for their addresses", async () => {
    const named = { ...settings(ours), PARLEY_CASSANDRA_TLS_NAME: "node.parley.test" };
    await (await connected(config(named), outside)).shutdown();
  });

  const wrong: readonly [string, () => SettingValues, RegExp][] = [
    [
      "another authority for the nodes",
      () => ({ ...settings(ours), PARLEY_CASSANDRA_CA_FILE: others.caFile }),
      /unable to verify the first certificate/,
    ],
    [
      "no certificate of its own",
      () => ({ PARLEY_CASSANDRA_CA_FILE: ours.caFile }),
      /certificate required|bad certificate|ECONNRESET|closed/i,
    ],
    [
      "a certificate of another authority",
      () => ({ ...settings(others), PARLEY_CASSANDRA_CA_FILE: ours.caFile }),
      /unknown ca|certificate unknown|bad certificate|ECONNRESET|closed/i,
    ],
    [
      "another name",
      () => ({ ...settings(ours), PARLEY_CASSANDRA_TLS_NAME: "another.test" }),
      /does not match certificate's altnames/,
    ],
    [
      "a file that is not there",
      () => ({ PARLEY_CASSANDRA_CA_FILE: join(folder ?? "", "none.crt") }),
      /none\.crt cannot be read/,
    ],
  ];
  for (const [says, bad, why] of wrong) {
    it(`with ${says} it waits, and says why`, async () => {
      const lines: string[] = [];
      const log = createLog({ level: "warn", to: { write: (line) => void lines.push(line) } });
      const giveUp = new AbortController();
      const opening = connected(config(bad()), { ...outside, log }, giveUp.signal);
      opening.catch(() => undefined);
      await asked(mostMs, `a line like ${why.source}, not ${lines.join()}`, () =>
        Promise.resolve(lines.some((line) => why.test(line)) ? true : undefined),
      );
      giveUp.abort(new Error("no longer"));
      await assert.rejects(opening, /no longer/);
    });
  }
});
