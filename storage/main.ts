/** Storage as a process of a cluster: over Cassandra, media in a folder that all storage processes share, or in an S3-compatible store. */
import type { EnvReader } from "../mesh/env.ts";
import { type Made, type Parts, type ServiceProcess, command } from "../mesh/process.ts";
import { type OwnConfig, withoutEdge } from "../mesh/process-config.ts";
import { StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { type CassandraConfig, cassandraConfig } from "./config.ts";
import { createStorage, openCassandraStore, openMediaFolder } from "./index.ts";
import { openS3Media, type S3Config, s3Config } from "./s3.ts";

interface Config extends OwnConfig {
  readonly cassandra: CassandraConfig;
  readonly mediaFolder: string | undefined;
  readonly s3: S3Config | undefined;
}

function readConfig(read: EnvReader): Config {
  const mediaFolder = read.optional(
    "MEDIA_FOLDER",
    "a directory for images, shared by all storage processes",
  );
  const s3 = s3Config(read);
  if ((mediaFolder === undefined) === (s3 === undefined))
    read.wrong("one of PARLEY_MEDIA_FOLDER and PARLEY_S3_BUCKET must say where images are kept");
  return { ...withoutEdge(read), cassandra: cassandraConfig(read), mediaFolder, s3 };
}

async function make(parts: Parts<Config>): Promise<Made<typeof StorageService>> {
  const { config, surroundings, signal } = parts;
  const { cassandra, mediaFolder, s3 } = config;
  parts.waits(`it waits for Cassandra at ${cassandra.contactPoints.join(", ")}`);
  const store = await openCassandraStore(cassandra, surroundings, signal);
  if (s3 === undefined) {
    const media = await openMediaFolder(mediaFolder ?? "", surroundings.random);
    return { running: createStorage(surroundings, { store, media }) };
  }
  const media = openS3Media(s3, surroundings);
  await media.waitForBucket((reason) => parts.waits(reason), signal);
  return { running: createStorage(surroundings, { store, media }) };
}

const storage: ServiceProcess<typeof StorageService, Config> = {
  name: "storage",
  service: StorageService,
  readConfig,
  make,
};

export const storageCommand = command(storage);
