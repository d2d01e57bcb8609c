/** The suite of all stores on real Cassandra: each case with empty tables. */
import { Client } from "cassandra-driver";
import { pino } from "pino";
import { systemClock } from "../../mesh/clock.ts";
import { EnvReader } from "../../mesh/env.ts";
import { systemRandom } from "../../mesh/random.ts";
import {
  type CassandraConfig,
  cassandraConfig,
  migrate,
  openCassandraStore,
  openMediaFolder,
} from "../../storage/index.ts";
import { storeSuite } from "../conformance/store.ts";
import { tables as tablesOf } from "../sim/store/schema.ts";
import { newFolder } from "../support/parley.ts";
import { sharedGround } from "./ground.ts";

const outside = {
  clock: systemClock,
  random: systemRandom,
  log: pino({ level: process.env["LOG"] ?? "silent" }),
};
const tables = [...tablesOf.keys()];

describe("Cassandra", () => {
  let config: CassandraConfig;
  let client: Client;

  before(async function () {
    const { cassandra } = await sharedGround();
    const [contactPoint = ""] = cassandra.endpoints;
    const settings = {
      PARLEY_CASSANDRA: contactPoint,
      PARLEY_CASSANDRA_REPLICATION: "1",
      PARLEY_CASSANDRA_KEYSPACE: "conformance",
    };
    config = cassandraConfig(new EnvReader(settings, "PARLEY_"));
    await migrate(config, outside);
    client = new Client({ contactPoints: [contactPoint], localDataCenter: config.datacenter });
  });

  after(async () => {
    await client.execute(`DROP KEYSPACE ${config.keyspace}`);
    await client.shutdown();
  });

  storeSuite(
    "Cassandra",
    async () => {
      for (const table of tables) await client.execute(`TRUNCATE ${config.keyspace}.${table}`);
      const folder = await newFolder();
      const store = await openCassandraStore(config, outside);
      const media = await openMediaFolder(folder.path, systemRandom);
      return { store, media, remove: () => folder.remove() };
    },
    { reads: false },
  );
});
