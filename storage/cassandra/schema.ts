/** The tables, in versioned steps, and whether what is there is what this Parley knows. */
import { types, type Client } from "cassandra-driver";
import type { CassandraConfig } from "../config.ts";

/**
 * A read asks as many nodes as a quorum takes, and one more where they are slow: without a bound in time a node that dies holds up every
 * batch until the others have given it up, which takes them some ten seconds.
 */
const speculative = "speculative_retry = 'MIN(99p,100ms)'";

/** One statement a step; each may run twice. The version of a schema is how many of them ran. */
export const steps: readonly string[] = [
  // A log: 4,096 records a partition. One blob a record, written under its writer's epoch: at one seq the highest epoch wins.
  `CREATE TABLE IF NOT EXISTS log (
    conversation_id text, bucket int, seq bigint, cell blob,
    PRIMARY KEY ((conversation_id, bucket), seq))
    WITH ${speculative}`,
  // A user's conversations. For direct ones this is the member's row, too, with the other's cursors beside it.
  `CREATE TABLE IF NOT EXISTS user_index (
    user_id text, conversation_id text, head blob, membership bigint, delivered bigint, read bigint,
    peer_delivered bigint, peer_read bigint,
    PRIMARY KEY ((user_id), conversation_id))
    WITH ${speculative} AND compaction = {'class': 'LeveledCompactionStrategy'}`,
  // A group and its members.
  `CREATE TABLE IF NOT EXISTS groups (
    conversation_id text, user_id text, head blob static, membership bigint, delivered bigint, read bigint,
    PRIMARY KEY ((conversation_id), user_id))
    WITH ${speculative} AND compaction = {'class': 'LeveledCompactionStrategy'}`,
  // Kept for good: a few bytes for each crash.
  `CREATE TABLE IF NOT EXISTS revoked (incarnation text PRIMARY KEY, revoked boolean)
    WITH ${speculative}`,
  `CREATE TABLE IF NOT EXISTS last_seen (user_id text PRIMARY KEY, time_ms bigint)
    WITH ${speculative}`,
  // A medium is asked for by both, and headers have thumbnails: a conversation's would make a partition without an end.
  `CREATE TABLE IF NOT EXISTS media (
    conversation_id text, media_id text, header blob,
    PRIMARY KEY ((conversation_id, media_id)))
    WITH ${speculative}`,
  // Who is erased, without their id.
  `CREATE TABLE IF NOT EXISTS erasures (user_hash text PRIMARY KEY, receipt blob)
    WITH ${speculative}`,
  // Which media a user uploaded: conversation and medium.
  `CREATE TABLE IF NOT EXISTS uploads (
    user_id text, medium text,
    PRIMARY KEY ((user_id), medium))
    WITH ${speculative}`,
  // Where a medium was uploaded and by whom: conversation and user.
  `CREATE TABLE IF NOT EXISTS media_uses (
    media_id text, upload text,
    PRIMARY KEY ((media_id), upload))
    WITH ${speculative}`,
  // Of conversations that are not kept for ever. All are read now and then, so that they are spread over a few partitions by their ids.
  `CREATE TABLE IF NOT EXISTS retentions (
    part int, conversation_id text, setting blob, floor bigint, removed bigint,
    PRIMARY KEY ((part), conversation_id))
    WITH ${speculative} AND compaction = {'class': 'LeveledCompactionStrategy'}`,
];

export const schemaVersion = steps.length;

export type SchemaSettings = Pick<CassandraConfig, "keyspace" | "datacenter" | "replication">;

export async function tableIsThere(
  client: Client,
  keyspace: string,
  table: string,
): Promise<boolean> {
  const { rows } = await client.execute(
    "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?",
    [keyspace, table],
    { prepare: true },
  );
  return rows.length > 0;
}

/** For both: where nothing is there, 0. */
export async function versionOf(client: Client, keyspace: string): Promise<number> {
  if (!(await tableIsThere(client, keyspace, "schema_version"))) return 0;
  const found = await client.execute(
    `SELECT version FROM ${keyspace}.schema_version WHERE part = 'schema'`,
    [],
    { consistency: types.consistencies.serial },
  );
  return Number(found.first()?.["version"] ?? 0);
}

/** Empty where `parley migrate` of a version that gives ids has not run yet. */
export async function storeIdOf(client: Client, keyspace: string): Promise<string> {
  const found = await client.execute(
    `SELECT holder FROM ${keyspace}.schema_version WHERE part = 'store'`,
    [],
    { consistency: types.consistencies.serial },
  );
  return String(found.first()?.["holder"] ?? "");
}

/** The copies that the keyspace keeps in the data centre; undefined where there is no such keyspace. */
async function replicationOf(
  client: Client,
  { keyspace, datacenter }: SchemaSettings,
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
  settings: SchemaSettings,
): Promise<string | undefined> {
  const { keyspace } = settings;
  const copies = await replicationOf(client, settings);
  if (copies === undefined) return `there is no keyspace ${keyspace}: run \`parley migrate\``;
  return (
    replicationMismatch(copies, settings) ??
    versionMismatch(await versionOf(client, keyspace), keyspace)
  );
}

/** What a migration cannot mend. */
export async function unmendable(
  client: Client,
  settings: SchemaSettings,
): Promise<string | undefined> {
  const copies = await replicationOf(client, settings);
  if (copies === undefined) return `there is no keyspace ${settings.keyspace}`;
  return replicationMismatch(copies, settings);
}

function replicationMismatch(
  copies: number,
  { keyspace, datacenter, replication }: SchemaSettings,
): string | undefined {
  if (copies === replication) return undefined;
  return `keyspace ${keyspace} keeps ${copies} copies in data centre ${datacenter}, but PARLEY_CASSANDRA_REPLICATION is ${replication}: set it to ${copies}, or change the keyspace (ALTER KEYSPACE), repair it, and start again`;
}

export function versionMismatch(version: number, keyspace: string): string | undefined {
  if (version < schemaVersion)
    return `the schema of keyspace ${keyspace} is at version ${version}, and ${schemaVersion} is needed: run \`parley migrate\``;
  if (version > schemaVersion)
    return `the schema of keyspace ${keyspace} is at version ${version}, newer than the ${schemaVersion} that this Parley knows: run a newer Parley`;
  return undefined;
}
