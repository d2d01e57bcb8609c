/** Brings the schema to the version that this Parley knows. It runs as `parley migrate`, never beside messages. */
import { createHash } from "node:crypto";
import { errors, types, type Client, type Host } from "cassandra-driver";
import { sleep } from "../../mesh/clock.ts";
import { newId } from "../../mesh/random.ts";
import type { CassandraConfig } from "../config.ts";
import { connected, type Outside, patiently } from "./connection.ts";
import {
  steps,
  schemaVersion,
  tableIsThere,
  unmendable,
  versionMismatch,
  versionOf,
} from "./schema.ts";

const lockSeconds = 60;
/** A holder that died keeps others out until its lock ends by itself. */
const lockForMs = 120_000;
const nodesForMs = 30_000;
const agreeForMs = 60_000;
const pollMs = 500;

/**
 * Makes or updates the schema. Waits for Cassandra for as long as it takes. Safe to run twice, and from several places at once: one does it,
 * the others wait.
 */
export async function migrate(
  config: CassandraConfig,
  outside: Outside,
  signal?: AbortSignal,
): Promise<void> {
  const client = await connected(config, outside, signal);
  try {
    await new Migration(client, config, outside, signal).run();
  } finally {
    await client.shutdown();
  }
}

/** A table that another made just now is in a node's list of tables a moment before it can be used there. */
const isNotThereYet = (error: unknown): boolean =>
  error instanceof errors.ResponseError &&
  error.code === types.responseErrorCodes.invalid &&
  error.message.includes("does not exist");

class Migration {
  readonly #client: Client;
  readonly #config: CassandraConfig;
  readonly #outside: Outside;
  readonly #signal: AbortSignal | undefined;
  readonly #who: string;

  constructor(
    client: Client,
    config: CassandraConfig,
    outside: Outside,
    signal: AbortSignal | undefined,
  ) {
    this.#client = client;
    this.#config = config;
    this.#outside = outside;
    this.#signal = signal;
    this.#who = newId(outside.random);
  }

  async run(): Promise<void> {
    await this.#begin();
    await this.#lock();
    try {
      await this.#update();
    } finally {
      await this.#unlock();
    }
  }

  /** What the lock itself needs. All of it may be done by several at once. */
  async #begin(): Promise<void> {
    const { keyspace, datacenter, replication } = this.#config;
    await this.#enoughNodes();
    await this.#change(
      `CREATE KEYSPACE IF NOT EXISTS ${keyspace} WITH replication = {'class': 'NetworkTopologyStrategy', '${datacenter}': ${replication}}`,
    );
    const wrong = await this.#ask(() => unmendable(this.#client, this.#config));
    if (wrong !== undefined) throw new Error(wrong);
    // Another may have made it just now, and not every node may have it.
    if (await this.#ask(() => tableIsThere(this.#client, keyspace, "schema_version")))
      return this.#agree();
    // Two nodes that make a table at once would give it two ids, and never agree: so the id is known before.
    await this.#change(
      `CREATE TABLE IF NOT EXISTS ${keyspace}.schema_version (part text PRIMARY KEY, version int, holder text) WITH id = ${tableId(keyspace)}`,
    );
  }

  /** A keyspace with more copies than nodes takes no writes. Nodes that start together need a while to know each other. */
  async #enoughNodes(): Promise<void> {
    const { datacenter, replication } = this.#config;
    for (let leftMs = nodesForMs; ; leftMs -= pollMs) {
      const nodes = await this.#ask(() => this.#nodes());
      if (nodes >= replication) return;
      if (leftMs <= 0)
        throw new Error(
          `data centre ${datacenter} has ${nodes} nodes, and PARLEY_CASSANDRA_REPLICATION is ${replication}: start more nodes, or set it to ${nodes} at most`,
        );
      await this.#pause();
    }
  }

  async #nodes(): Promise<number> {
    const { datacenter } = this.#config;
    const [host] = this.#hosts;
    const on = host === undefined ? {} : { host };
    const [local, peers] = await Promise.all(
      ["local", "peers"].map((table) =>
        this.#client.execute(`SELECT data_center FROM system.${table}`, [], on),
      ),
    );
    const all = [...(local?.rows ?? []), ...(peers?.rows ?? [])];
    return all.filter((row) => row["data_center"] === datacenter).length;
  }

  /** Those that can be asked. */
  get #hosts(): Host[] {
    const { datacenter } = this.#config;
    return this.#client.hosts
      .values()
      .filter((host) => host.datacenter === datacenter && host.isUp());
  }

  async #update(): Promise<void> {
    const { keyspace } = this.#config;
    const before = await this.#ask(() => versionOf(this.#client, keyspace));
    if (before > schemaVersion) throw new Error(versionMismatch(before, keyspace));
    for (let version = before + 1; version <= schemaVersion; version += 1) {
      this.#outside.log.info({ keyspace, version }, "a step of the schema");
      const step = steps[version - 1] ?? "";
      await this.#lock();
      await this.#change(step.replace("IF NOT EXISTS ", `IF NOT EXISTS ${keyspace}.`));
      await this.#decide(
        `UPDATE ${keyspace}.schema_version SET version = ? WHERE part = 'schema' IF version = ?`,
        [version, version === 1 ? null : version - 1],
      );
    }
    // Once for a keyspace. Should a backup bring its own along, the one that was made later stays.
    await this.#decide(
      `INSERT INTO ${keyspace}.schema_version (part, holder) VALUES ('store', ?) IF NOT EXISTS`,
      [newId(this.#outside.random)],
    );
    const after = await this.#ask(() => versionOf(this.#client, keyspace));
    const wrong = versionMismatch(after, keyspace);
    if (wrong !== undefined) throw new Error(wrong);
  }

  /** One migrates at a time. Who holds the lock holds it for longer. */
  async #lock(): Promise<void> {
    const { keyspace } = this.#config;
    for (let leftMs = lockForMs; leftMs > 0; leftMs -= pollMs) {
      const taken = await this.#decide(
        `INSERT INTO ${keyspace}.schema_version (part, holder) VALUES ('lock', ?) IF NOT EXISTS USING TTL ${lockSeconds}`,
        [this.#who],
      ).catch((error: unknown) => {
        if (!isNotThereYet(error)) throw error;
        return undefined;
      });
      if (taken?.["[applied]"] === true) return;
      if (taken?.["holder"] === this.#who) {
        const held = await this.#decide(
          `UPDATE ${keyspace}.schema_version USING TTL ${lockSeconds} SET holder = ? WHERE part = 'lock' IF holder = ?`,
          [this.#who, this.#who],
        );
        if (held?.["[applied]"] === true) return;
      }
      await this.#pause();
    }
    throw new Error(
      `another process is migrating keyspace ${keyspace} and does not come to an end`,
    );
  }

  async #unlock(): Promise<void> {
    await this.#decide(
      `DELETE FROM ${this.#config.keyspace}.schema_version WHERE part = 'lock' IF holder = ?`,
      [this.#who],
    );
  }

  /** A change that happens or not, as the row says. Asked again where it is not known: each tells its own work from another's. */
  async #decide(query: string, params: unknown[]): Promise<types.Row | undefined> {
    const serialConsistency = types.consistencies.serial;
    const result = await this.#ask(() =>
      this.#client.execute(query, params, { prepare: true, serialConsistency }),
    );
    return result.rows[0];
  }

  /** A change of the schema, which every node has when it resolves. */
  async #change(statement: string): Promise<void> {
    await this.#ask(() =>
      this.#client.execute(statement, [], { prepare: false, readTimeout: 30_000 }),
    );
    await this.#agree();
  }

  /** Each is asked itself: what one knows of the others is what they had a while ago. */
  async #agree(): Promise<void> {
    for (let leftMs = agreeForMs; ; leftMs -= pollMs) {
      const versions = await this.#ask(() =>
        Promise.all(this.#hosts.map((host) => this.#versionAt(host))),
      );
      if (new Set(versions).size <= 1) return;
      if (leftMs <= 0)
        throw new Error("Cassandra's nodes do not agree on the schema: see to them, and try again");
      await this.#pause();
    }
  }

  async #versionAt(host: Host): Promise<string> {
    const query = "SELECT schema_version FROM system.local";
    const { rows } = await this.#client.execute(query, [], { host });
    return String(rows[0]?.["schema_version"]);
  }

  #ask<T>(ask: () => Promise<T>): Promise<T> {
    return patiently(this.#outside, this.#signal, ask);
  }

  #pause(): Promise<void> {
    return sleep(this.#outside.clock, pollMs, this.#signal);
  }
}

function tableId(keyspace: string): string {
  const hex = createHash("sha256").update(`parley ${keyspace}.schema_version`).digest("hex");
  const variant = "89ab"[parseInt(hex.charAt(16), 16) & 3] ?? "8";
  const parts = [hex.slice(0, 8), hex.slice(8, 12), `4${hex.slice(13, 16)}`];
  return [...parts, variant + hex.slice(17, 20), hex.slice(20, 32)].join("-");
}
