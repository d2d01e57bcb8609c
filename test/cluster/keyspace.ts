/** A keyspace of a test's own on real Cassandra: stores over it, and what only dead writers and operators do to it. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Client } from "cassandra-driver";
import type { types } from "cassandra-driver";
import { pino } from "pino";
import { systemClock } from "../../mesh/clock.ts";
import { EnvReader } from "../../mesh/env.ts";
import { systemRandom } from "../../mesh/random.ts";
import { statementsOf } from "../../storage/cassandra/rows.ts";
import type { Outside, Query } from "../../storage/cassandra/connection.ts";
import { cassandraConfig, migrate, openCassandraStore } from "../../storage/index.ts";
import type { CassandraConfig, Store } from "../../storage/index.ts";

const tables = [
  "log",
  "user_index",
  "groups",
  "revoked",
  "last_seen",
  "media",
  "erasures",
  "uploads",
  "media_uses",
];

export const outside: Outside = {
  clock: systemClock,
  random: systemRandom,
  log: pino({ level: process.env["LOG"] ?? "silent" }),
};

export class Keyspace {
  readonly config: CassandraConfig;
  readonly #client: Client;
  readonly #stores: Store[] = [];

  private constructor(config: CassandraConfig, client: Client) {
    this.config = config;
    this.#client = client;
  }

  /** Where nothing is yet. */
  static on(contactPoints: readonly string[], replication = 1): Keyspace {
    const settings = {
      PARLEY_CASSANDRA: contactPoints.join(","),
      PARLEY_CASSANDRA_REPLICATION: String(replication),
      PARLEY_CASSANDRA_KEYSPACE: `test_${randomBytes(4).toString("hex")}`,
    };
    const read = new EnvReader(settings, "PARLEY_");
    const config = read.done(cassandraConfig(read));
    const client = new Client({
      contactPoints: [...contactPoints],
      localDataCenter: config.datacenter,
      socketOptions: { readTimeout: 60_000 },
    });
    return new Keyspace(config, client);
  }

  static async migrated(contactPoints: readonly string[], replication = 1): Promise<Keyspace> {
    const keyspace = Keyspace.on(contactPoints, replication);
    await keyspace.migrate();
    return keyspace;
  }

  get name(): string {
    return this.config.keyspace;
  }

  async migrate(more: Partial<Outside> = {}): Promise<void> {
    await migrate(this.config, { ...outside, ...more });
  }

  async open(more: Partial<Outside> = {}): Promise<Store> {
    const store = await openCassandraStore(this.config, { ...outside, ...more });
    this.#stores.push(store);
    return store;
  }

  async ask(query: string, params: unknown[] = []): Promise<types.Row[]> {
    return (await this.#client.execute(query.replaceAll("KS.", `${this.name}.`), params)).rows;
  }

  /** Statements as the store makes them, and no more of them than are given. */
  async write(
    make: (statements: ReturnType<typeof statementsOf>) => readonly Query[],
  ): Promise<void> {
    for (const { query, params } of make(statementsOf(this.name)))
      await this.#client.execute(
        query,
        params.map((one) => (typeof one === "bigint" ? String(one) : one)),
        { prepare: true },
      );
  }

  /** Forgets everything that was stored. */
  async clear(): Promise<void> {
    await Promise.all(tables.map((table) => this.ask(`TRUNCATE KS.${table}`)));
  }

  /** Requests that the node has coordinated for this keyspace so far, by its own counting. */
  async requests(kind: "read" | "write"): Promise<number> {
    const rows = await this.ask(
      `SELECT table_name, count FROM system_views.coordinator_${kind}_latency WHERE keyspace_name = ? ALLOW FILTERING`,
      [this.name],
    );
    const counts = rows.map((row) => Number(row["count"]));
    assert(counts.every(Number.isFinite));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  async closeStores(): Promise<void> {
    await Promise.all(this.#stores.splice(0).map((store) => store.close()));
  }

  async close(): Promise<void> {
    await this.closeStores();
    await this.#client.shutdown();
  }

  async drop(): Promise<void> {
    await this.closeStores();
    await this.ask(`DROP KEYSPACE IF EXISTS ${this.name}`);
    await this.#client.shutdown();
  }
}
