/** Storage's settings: how much may wait between two checkpoints, and how much is kept in memory beyond that. */
import { type ClientTlsFiles, readClientTls } from "../mesh/client-tls.ts";
import type { EnvReader } from "../mesh/env.ts";

export interface StorageConfig {
  /** So much that the tables lack begins a checkpoint. */
  readonly checkpointBytes: number;
  /** So long after the first change that the tables lack a checkpoint begins. */
  readonly checkpointMs: number;
  /** With so much that the tables lack, writers wait for the checkpoint. */
  readonly unwrittenBytesMax: number;
  /** Conversations kept in memory beyond those that must be. */
  readonly cachedConversationsMax: number;
}

/** More between two checkpoints means fewer rows for each message, more memory, and a longer start after a crash. */
export const storageDefaults: StorageConfig = {
  checkpointBytes: 16 * 1_048_576,
  checkpointMs: 5_000,
  unwrittenBytesMax: 64 * 1_048_576,
  cachedConversationsMax: 16_384,
};

export function storageConfig(read: EnvReader): StorageConfig {
  return {
    checkpointBytes: read.int(
      "STORAGE_CHECKPOINT_BYTES",
      storageDefaults.checkpointBytes,
      [65_536, 1_073_741_824],
      "so much in the journal alone begins a checkpoint",
    ),
    checkpointMs: read.int(
      "STORAGE_CHECKPOINT_MS",
      storageDefaults.checkpointMs,
      [100, 3_600_000],
      "so long after the first change that is in the journal alone a checkpoint begins",
    ),
    unwrittenBytesMax: read.int(
      "STORAGE_UNWRITTEN_BYTES_MAX",
      storageDefaults.unwrittenBytesMax,
      [262_144, 4_294_967_296],
      "with so much in the journal alone, writers wait for the checkpoint",
    ),
    cachedConversationsMax: read.int(
      "STORAGE_CACHED_CONVERSATIONS_MAX",
      storageDefaults.cachedConversationsMax,
      [100, 10_000_000],
      "conversations kept in memory, at about 1 KB each",
    ),
  };
}

/** The store of a cluster. */
export interface CassandraConfig {
  /** "host:port" of nodes to begin with. */
  readonly contactPoints: readonly string[];
  readonly datacenter: string;
  readonly keyspace: string;
  /** Copies of each row that the keyspace has to keep. */
  readonly replication: number;
  /** Requests under way. */
  readonly inFlightMax: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** Undefined: unencrypted. */
  readonly tls: ClientTlsFiles | undefined;
  /** What the nodes' certificates must name. Undefined: the address at which each is reached. */
  readonly tlsName: string | undefined;
}

export function cassandraConfig(read: EnvReader): CassandraConfig {
  const keyspace = read.string(
    "CASSANDRA_KEYSPACE",
    "parley",
    "the keyspace that keeps everything",
  );
  if (!/^[a-z][a-z0-9_]{0,47}$/.test(keyspace))
    read.wrong(
      `PARLEY_CASSANDRA_KEYSPACE must be 1 to 48 of a-z, 0-9 and _, beginning with a letter, not "${keyspace}"`,
    );
  return {
    keyspace,
    contactPoints: read.list(
      "CASSANDRA",
      ["127.0.0.1:9042"],
      "host:port of nodes of Cassandra to begin with",
    ),
    datacenter: read.string(
      "CASSANDRA_DATACENTER",
      "datacenter1",
      "the data centre whose nodes are asked",
    ),
    replication: read.int(
      "CASSANDRA_REPLICATION",
      3,
      [1, 9],
      "copies of each row in the data centre; another number there is refused",
    ),
    inFlightMax: read.int(
      "CASSANDRA_IN_FLIGHT_MAX",
      1_024,
      [16, 32_768],
      "requests to Cassandra that may be under way",
    ),
    username: read.optional("CASSANDRA_USERNAME", "who logs in at Cassandra"),
    password: read.optional("CASSANDRA_PASSWORD", "the password for it"),
    tls: readClientTls(read, "CASSANDRA", "Cassandra"),
    tlsName: read.optional(
      "CASSANDRA_TLS_NAME",
      "the name that is in all nodes' certificates; empty: each has the address at which the node is reached",
    ),
  };
}
