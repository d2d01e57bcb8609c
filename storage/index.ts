/** All of storage that compositions and tests may import. */
export { backUp } from "./backup.ts";
export { migrate, openCassandraStore } from "./cassandra/when-needed.ts";
export { cassandraConfig, storageConfig } from "./config.ts";
export type { CassandraConfig, StorageConfig } from "./config.ts";
export { createStorage } from "./service.ts";
export type { StorageDeps } from "./service.ts";
export { openLmdbStore } from "./lmdb.ts";
export type { LmdbSettings } from "./lmdb.ts";
export { openMemoryStore } from "./memory.ts";
export type { MemoryHooks, MemoryStore } from "./memory.ts";
export { openMediaFolder } from "./media.ts";
export type { MediaStore, Store } from "./ports.ts";
export { verifyData } from "./verify.ts";
export type { Verified } from "./verify.ts";
