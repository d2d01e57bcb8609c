/** The store of a cluster, and how its schema comes into being. */
export { migrate } from "./migrate.ts";
export { schemaVersion } from "./schema.ts";
export { openCassandraStore } from "./store.ts";
