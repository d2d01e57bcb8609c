/** The store of a cluster for those that may not need it: its driver is loaded when it is called for. */
import type { Store } from "../ports.ts";
import type { migrate as runMigration } from "./migrate.ts";
import type { openCassandraStore as openStore } from "./store.ts";

export async function openCassandraStore(...given: Parameters<typeof openStore>): Promise<Store> {
  const { openCassandraStore: open } = await import("./store.ts");
  return open(...given);
}

export async function migrate(...given: Parameters<typeof runMigration>): Promise<void> {
  const { migrate: run } = await import("./migrate.ts");
  await run(...given);
}
