/** The tables, in versioned steps, and how they come into being. It runs as `parley migrate`, never beside messages. */
import { types, type Client } from "cassandra-driver";
import type { Logger } from "pino";
import type { Clock } from "../../mesh/clock.ts";
import { sleep } from "../../mesh/clock.ts";

/** One statement a step; each may run twice. The version of a schema is how many of them ran. */
const steps: readonly string[] = [
  // A log: 4,096 records a partition. One blob a record, written under its writer's epoch: at one seq the highest epoch wins.
  `CREATE TABLE IF NOT EXISTS log (
    conversation_id text, bucket int, seq bigint, cell blob,
    PRIMARY KEY ((conversation_id, bucket), seq))`,
  // A user's conversations. For direct ones this is the member's row, too, with the other's cursors beside it.
  `CREATE TABLE IF NOT EXISTS user_index (
    user_id text, conversation_id text, head blob, membership bigint, delivered bigint, read bigint,
    peer_delivered bigint, peer_read bigint,
    PRIMARY KEY ((user_id), conversation_id))
    WITH compaction = {'class': 'LeveledCompactionStrategy'}`,
  // A group and its members.
  `CREATE TABLE IF NOT EXISTS groups (
    conversation_id text, user_id text, head blob static, membership bigint, delivered bigint, read bigint,
    PRIMARY KEY ((conversation_id), user_id))
    WITH compaction = {'class': 'LeveledCompactionStrategy'}`,
  // Kept for good: a few bytes for each crash.
  `CREATE TABLE IF NOT EXISTS revoked (incarnation text PRIMARY KEY, revoked boolean)`,
  `CREATE TABLE IF NOT EXISTS last_seen (user_id text PRIMARY KEY, time_ms bigint)`,
  `CREATE TABLE IF NOT EXISTS media (
    conversation_id text, media_id text, header blob,
    PRIMARY KEY ((conversation_id), media_id))`,
];

export const schemaVersion = steps.length;

const lockSeconds = 60;
const lockPollMs = 500;
const lockPolls = 240;

export interface MigrateSettings {
  readonly keyspace: string;
  readonly datacenter: string;
  readonly replication: number;
}

/** For both: where nothing is there, 0. */
export async function versionOf(client: Client, keyspace: string): Promise<number> {
  const { rows } = await client.execute(
    "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'schema_version'",
    [keyspace],
    { prepare: true },
  );
  if (rows.length === 0) return 0;
  const found = await client.execute(
    `SELECT version FROM ${keyspace}.schema_version WHERE part = 'schema'`,
    [],
    { consistency: types.consistencies.serial },
  );
  return Number(found.first()?.["version"] ?? 0);
}

/** The copies that the keyspace keeps in the data centre; undefined where there is no such keyspace. */
export async function replicationOf(
  client: Client,
  { keyspace, datacenter }: MigrateSettings,
): Promise<number | undefined> {
  const { rows } = await client.execute(
    "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?",
    [keyspace],
    { prepare: true },
  );
  const replication: unknown = rows[0]?.["replication"];
  if (typeof replication !== "object" || replication === null) return undefined;
  const copies = new Map(Object.entries(replication)).get(datacenter);
  return copies === undefined ? 0 : Number(copies);
}

/** Why a process cannot work with what is there, with what to do; undefined where it can. */
export async function mismatch(
  client: Client,
  settings: MigrateSettings,
): Promise<string | undefined> {
  const { keyspace, replication, datacenter } = settings;
  const copies = await replicationOf(client, settings);
  const version = copies === undefined ? 0 : await versionOf(client, keyspace);
  if (version < schemaVersion)
    return `the schema of keyspace ${keyspace} is at version ${version}, and ${schemaVersion} is needed: run \`parley migrate\``;
  if (version > schemaVersion)
    return `the schema of keyspace ${keyspace} is at version ${version}, newer than the ${schemaVersion} that this Parley knows: run a newer Parley`;
  if (copies !== replication)
    return `keyspace ${keyspace} keeps ${copies} copies in data centre ${datacenter}, but PARLEY_CASSANDRA_REPLICATION is ${replication}: set it to ${copies}, or ALTER KEYSPACE and repair`;
  return undefined;
}

/** Runs the steps that are missing. Safe to run twice, and from several places at once: one does it, the others wait. */
export async function migrateWith(
  client: Client,
  settings: MigrateSettings,
  who: string,
  { clock, log }: { clock: Clock; log: Logger },
): Promise<void> {
  const { keyspace, datacenter, replication } = settings;
  await client.execute(
    `CREATE KEYSPACE IF NOT EXISTS ${keyspace} WITH replication = {'class': 'NetworkTopologyStrategy', '${datacenter}': ${replication}}`,
  );
  await client.execute(
    `CREATE TABLE IF NOT EXISTS ${keyspace}.schema_version (part text PRIMARY KEY, version int, holder text)`,
  );
  await locked(client, keyspace, who, clock);
  try {
    const before = await versionOf(client, keyspace);
    if (before > schemaVersion)
      throw new Error((await mismatch(client, settings)) ?? "the schema is newer");
    for (let version = before + 1; version <= schemaVersion; version += 1) {
      const step = steps[version - 1] ?? "";
      log.info({ keyspace, version }, "a step of the schema");
      await client.execute(step.replace("IF NOT EXISTS ", `IF NOT EXISTS ${keyspace}.`));
      await client.execute(
        `UPDATE ${keyspace}.schema_version SET version = ? WHERE part = 'schema' IF version = ?`,
        [version, version === 1 ? null : version - 1],
        { prepare: true, serialConsistency: types.consistencies.serial },
      );
    }
  } finally {
    await client.execute(
      `DELETE FROM ${keyspace}.schema_version WHERE part = 'lock' IF holder = ?`,
      [who],
      { prepare: true },
    );
  }
  const wrong = await mismatch(client, settings);
  if (wrong !== undefined) throw new Error(wrong);
}

/** One migrates at a time. A holder that died is waited for until its lock ends by itself. */
async function locked(client: Client, keyspace: string, who: string, clock: Clock): Promise<void> {
  for (let poll = 0; poll < lockPolls; poll += 1) {
    const taken = await client.execute(
      `INSERT INTO ${keyspace}.schema_version (part, holder) VALUES ('lock', ?) IF NOT EXISTS USING TTL ${lockSeconds}`,
      [who],
      { prepare: true },
    );
    const row = taken.first();
    if (row?.["[applied]"] === true || row?.["holder"] === who) return;
    await sleep(clock, lockPollMs);
  }
  throw new Error(`another process is migrating keyspace ${keyspace} and does not come to an end`);
}
