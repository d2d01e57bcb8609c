import { pino } from "pino";
import { systemClock } from "../../mesh/clock.ts";
import { systemRandom } from "../../mesh/random.ts";
import {
  cassandraConfig,
  migrate,
  openCassandraStore,
  openMediaFolder,
} from "../../storage/index.ts";
import { EnvReader } from "../../mesh/env.ts";
import { storeSuite } from "../conformance/store.ts";
import { mkdtemp, rm } from "node:fs/promises";

const outside = {
  clock: systemClock,
  random: systemRandom,
  log: pino({ level: process.env["LOG"] ?? "silent" }),
};
const config = cassandraConfig(
  new EnvReader(
    {
      PARLEY_CASSANDRA: process.env["CASS"] ?? "",
      PARLEY_CASSANDRA_REPLICATION: "1",
      PARLEY_CASSANDRA_KEYSPACE: "conf",
    },
    "PARLEY_",
  ),
);
describe("conf", () => {
  before(async function () {
    this.timeout(120000);
    await migrate(config, outside);
  });
  storeSuite(
    "cassandra",
    async () => {
      const { Client } = await import("cassandra-driver");
      const client = new Client({
        contactPoints: [...config.contactPoints],
        localDataCenter: "datacenter1",
      });
      await Promise.all(
        ["log", "user_index", "groups", "revoked", "last_seen", "media"].map((t) =>
          client.execute(`TRUNCATE conf.${t}`),
        ),
      );
      await client.shutdown();
      const p = await mkdtemp("/tmp/w/m-");
      const folder = { path: p, remove: () => rm(p, { recursive: true }) };
      const store = await openCassandraStore(config, outside);
      return {
        store,
        media: await openMediaFolder(folder.path, systemRandom),
        remove: folder.remove,
      };
    },
    { reads: false },
  );
});
