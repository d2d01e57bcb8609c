/** The store of a cluster, and how its schema comes into being. */
import { newId } from "../../mesh/random.ts";
import type { CassandraConfig } from "../config.ts";
import { connected, type Outside } from "./connection.ts";
import { migrateWith } from "./schema.ts";

export { openCassandraStore } from "./store.ts";
export { schemaVersion } from "./schema.ts";

/** Makes or updates the schema. Waits for Cassandra for as long as it takes. */
export async function migrate(
  config: CassandraConfig,
  outside: Outside,
  signal?: AbortSignal,
): Promise<void> {
  const client = await connected(config, outside, signal);
  try {
    await migrateWith(client, config, newId(outside.random), outside);
  } finally {
    await client.shutdown();
  }
}
