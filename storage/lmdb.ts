/** The store of one process: a journal that makes writes durable at once, a memtable that is read, and lmdb tables behind it. */
import { chmod, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Clock } from "../mesh/clock.ts";
import { invalid, unavailable } from "../mesh/errors.ts";
import { newId, type Random } from "../mesh/random.ts";
import type {
  AppendRequest,
  Cell,
  ConversationState,
  ErasureReceipt,
  IndexRow,
  LastSeen,
  MediaHeader,
  Member,
  Retention,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { appendChange, mediaChange, replayGroup, revokeChange, seenChange } from "./changes.ts";
import { directUsers } from "../mesh/ids.ts";
import { Checkpoint } from "./checkpoint.ts";
import { Commits } from "./commits.ts";
import { storageDefaults } from "./config.ts";
import type { StorageConfig } from "./config.ts";
import type { DataDir } from "./datadir.ts";
import { lockDataDir } from "./datadir.ts";
import {
  forgetChange,
  markChange,
  removeUploadChange,
  retentionChange,
  rewriteChange,
  together,
  removeChange,
  trimChange,
  unseenChange,
} from "./erase-changes.ts";
import { headsOf, memberOf } from "./history.ts";
import { Journal, type Group } from "./journal.ts";
import { Memtable } from "./memtable.ts";
import type { Membership, Opened, Store, Upload, Use } from "./ports.ts";
import { Rows } from "./rows.ts";
import { formatVersion, Tables } from "./tables.ts";

export interface LmdbSettings {
  clock: Clock;
  random: Random;
  log: Logger;
  config?: Partial<StorageConfig>;
  /** Of a backup that is only looked at: it gets no id, which whoever starts from it makes. */
  withoutId?: boolean;
}

/**
 * Opens the data directory, or makes it. Rejects, naming the directory, where another process has it, where a newer Parley
 * wrote it, and where it is damaged.
 */
export async function openLmdbStore(folder: string, settings: LmdbSettings): Promise<Store> {
  const dataDir = await lockDataDir(folder, settings.random);
  try {
    return await openLocked(dataDir, settings);
  } catch (error) {
    await dataDir.release();
    throw error;
  }
}

async function openLocked(dataDir: DataDir, settings: LmdbSettings): Promise<Store> {
  const { path } = dataDir;
  const tables = await openTables(path);
  try {
    await chmod(join(path, "tables.mdb"), 0o600);
    await chmod(join(path, "tables.mdb-lock"), 0o600);
    await checkFormat(path, tables);
    const { journal, groups } = await Journal.open(path, settings.random, tables.applied);
    const config = { ...storageDefaults, ...settings.config };
    const memtable = new Memtable(tables, config.cachedConversationsMax);
    try {
      replay(path, memtable, groups);
      if (settings.withoutId !== true) await giveId(tables, settings.random);
    } catch (error) {
      await journal.close();
      throw error;
    }
    return new LmdbStore({ dataDir, tables, journal, memtable }, settings, config);
  } catch (error) {
    await tables.close();
    throw error;
  }
}

async function openTables(folder: string): Promise<Tables> {
  const path = join(folder, "tables.mdb");
  // Of a scrub that did not come to its end.
  for (const half of [`${path}.next`, `${path}.next-lock`]) await rm(half, { force: true });
  try {
    await checkMagic(path);
    return new Tables(folder, path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const message = `the tables in the data directory ${folder} cannot be opened (${reason}): restore the directory from a backup`;
    throw new Error(message, { cause });
  }
}

const magicAt = 24;
const magic = 0xbeefc0de;
const leastBytes = 8_192;

/** lmdb ends the process when it is given a file that is not its own. */
async function checkMagic(path: string): Promise<void> {
  const file = await open(path, "a+", 0o600);
  try {
    const { size } = await file.stat();
    if (size === 0) return;
    const head = Buffer.alloc(magicAt + 4);
    await file.read(head, 0, head.length, 0);
    if (size >= leastBytes && head.readUInt32LE(magicAt) === magic) return;
    throw new Error("tables.mdb is not a file of lmdb");
  } finally {
    await file.close();
  }
}

async function checkFormat(path: string, tables: Tables): Promise<void> {
  const { format } = tables;
  if (format > formatVersion) {
    throw new Error(
      `the data directory ${path} was written by a newer Parley (format ${format}, this one knows up to ${formatVersion}): start that version again, or choose another directory`,
    );
  }
  if (format === formatVersion) return;
  const rows = new Rows();
  rows.number("format", formatVersion);
  await tables.write(rows);
}

/** What is whole by its checksum and cannot be read is a newer one's. */
function replay(path: string, memtable: Memtable, groups: readonly Group[]): void {
  try {
    for (const { body } of groups) replayGroup(memtable, body);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const message = `the data directory ${path} was written by a newer Parley (${reason}): start that version again, or restore the directory from a backup that this version made`;
    throw new Error(message, { cause });
  }
}

async function giveId(tables: Tables, random: Random): Promise<void> {
  if (tables.storeId !== "") return;
  const rows = new Rows();
  rows.storeId(newId(random));
  await tables.write(rows);
}

interface Parts {
  dataDir: DataDir;
  tables: Tables;
  journal: Journal;
  memtable: Memtable;
}

const problemMs = 5_000;

class LmdbStore implements Store {
  readonly id: string;
  readonly #parts: Parts;
  readonly #memtable: Memtable;
  readonly #commits: Commits;
  readonly #checkpoint: Checkpoint;
  readonly #log: Logger;
  readonly #clock: Clock;
  #failure: { error: ConnectError; atMs: number } | undefined;
  #closing: Promise<void> | undefined;

  constructor(parts: Parts, { clock, log }: LmdbSettings, config: StorageConfig) {
    const { journal, memtable, tables } = parts;
    this.id = tables.storeId;
    this.#parts = parts;
    this.#memtable = memtable;
    this.#log = log;
    this.#clock = clock;
    this.#commits = new Commits({
      begin: Journal.begin,
      append: (group) => this.#append(group),
      room: () => this.#checkpoint.room(),
      applied: (bytes) => {
        memtable.dirtyBytes += bytes;
        memtable.sweep();
        this.#checkpoint.touched();
      },
    });
    const atBoundary = (run: () => void): void => this.#commits.atBoundary(run);
    this.#checkpoint = new Checkpoint(
      { clock, log, tables, memtable, journal, atBoundary },
      config,
    );
    if (memtable.dirtyBytes > 0) this.#checkpoint.touched();
  }

  async #append(group: Parameters<Journal["append"]>[0]): Promise<void> {
    try {
      await this.#parts.journal.append(group);
      this.#failure = undefined;
    } catch (error) {
      const failure = ConnectError.from(error);
      if (this.#failure === undefined) {
        this.#log.error({ error: failure.message }, "the journal takes no writes");
      }
      this.#failure = { error: failure, atMs: this.#clock.monotonic() };
      throw failure;
    }
  }

  append(batch: AppendRequest): Promise<void> {
    return this.#commits.add(appendChange(this.#memtable, batch));
  }

  revoke(incarnation: string): Promise<void> {
    if (incarnation === "") return Promise.reject(invalid("the incarnation is missing"));
    return this.#commits.add(revokeChange(this.#memtable, incarnation));
  }

  putLastSeen(seen: readonly LastSeen[]): Promise<void> {
    return this.#commits.add(seenChange(this.#memtable, seen));
  }

  putMedia(header: MediaHeader, uploaderId: string): Promise<void> {
    return this.#commits.add(mediaChange(this.#memtable, header, uploaderId));
  }

  conversation(conversationId: string): Promise<ConversationState | undefined> {
    return this.#read(() => this.#memtable.peek(conversationId).state);
  }

  opened(conversationId: string, membersMax: number): Promise<Opened> {
    return this.#read(() => {
      const conversation = this.#memtable.peek(conversationId);
      const users = directUsers(conversationId) ?? [];
      const erased = users.filter((userId) => this.#memtable.erasure(userId) !== undefined);
      return { state: conversation.state, members: conversation.everybody(membersMax), erased };
    });
  }

  membership(conversationId: string, userId: string): Promise<Membership | undefined> {
    return this.#read(() => {
      const conversation = this.#memtable.peek(conversationId);
      const { state } = conversation;
      const member = state === undefined ? undefined : conversation.member(userId);
      return state === undefined || member === undefined ? undefined : { state, member };
    });
  }

  cells(conversationId: string, firstSeq: number, lastSeq: number): Promise<Cell[]> {
    return this.#read(() => this.#memtable.peek(conversationId).cells(firstSeq, lastSeq));
  }

  members(conversationId: string, userIds: readonly string[]): Promise<(Member | undefined)[]> {
    return this.#read(() => {
      const conversation = this.#memtable.peek(conversationId);
      return userIds.map((userId) => conversation.member(userId));
    });
  }

  membersAfter(conversationId: string, afterUserId: string, limit: number): Promise<Member[]> {
    return this.#read(() => this.#memtable.peek(conversationId).membersAfter(afterUserId, limit));
  }

  index(userId: string): Promise<IndexRow[]> {
    return this.#read(() => this.#memtable.index(userId));
  }

  heads(userId: string): Promise<number[]> {
    return this.#read(() => headsOf(this.#memtable.index(userId)));
  }

  memberOf(userId: string): Promise<string[]> {
    return this.#read(() => memberOf(this.#memtable.index(userId)));
  }

  lastSeen(userIds: readonly string[]): Promise<bigint[]> {
    return this.#read(() => userIds.map((userId) => this.#memtable.lastSeen(userId)));
  }

  media(conversationId: string, mediaId: string): Promise<MediaHeader | undefined> {
    return this.#read(() => this.#memtable.media(conversationId, mediaId));
  }

  putErasure(receipt: ErasureReceipt): Promise<void> {
    return this.#commits.add(markChange(this.#memtable, receipt));
  }

  erasures(userIds: readonly string[]): Promise<(ErasureReceipt | undefined)[]> {
    return this.#read(() => userIds.map((userId) => this.#memtable.erasure(userId)));
  }

  rewrite(conversationId: string, cells: readonly Cell[], receipt: ErasureReceipt): Promise<void> {
    const change = rewriteChange(this.#memtable, conversationId, cells);
    return this.#commits.add(together(change, markChange(this.#memtable, receipt)));
  }

  forgetMember(conversationId: string, userId: string, receipt: ErasureReceipt): Promise<void> {
    const change = forgetChange(this.#memtable, conversationId, userId);
    return this.#commits.add(together(change, markChange(this.#memtable, receipt)));
  }

  removeConversation(conversationId: string): Promise<void> {
    return this.#commits.add(removeChange(this.#memtable, conversationId));
  }

  forgetUser(userId: string): Promise<void> {
    return this.#commits.add(unseenChange(this.#memtable, userId));
  }

  uploads(userId: string): Promise<Upload[]> {
    return this.#read(() => this.#memtable.uploads(userId));
  }

  usesOf(conversationId: string, userId: string, mediaIds: readonly string[]): Promise<Use[]> {
    return this.#read(() => this.#memtable.usesOf(conversationId, userId, mediaIds));
  }

  removeUpload(
    conversationId: string,
    mediaId: string,
    userId: string,
    withHeader: boolean,
  ): Promise<void> {
    const upload = { conversationId, mediaId, userId };
    return this.#commits.add(removeUploadChange(this.#memtable, upload, withHeader));
  }

  putRetention(retention: Retention): Promise<void> {
    return this.#commits.add(retentionChange(this.#memtable, retention));
  }

  retention(conversationId: string): Promise<Retention | undefined> {
    return this.#read(() => this.#memtable.retention(conversationId));
  }

  async *retentions(): AsyncGenerator<Retention, void> {
    yield* await this.#read(() => this.#memtable.retentions());
  }

  trim(conversationId: string, _firstSeq: number, floorSeq: number): Promise<void> {
    return this.#commits.add(trimChange(this.#memtable, conversationId, floorSeq));
  }

  scrub(): Promise<void> {
    return this.#checkpoint.scrub();
  }

  /** lmdb reads at once: what a map has in memory costs less than a promise. */
  #read<T>(read: () => T): Promise<T> {
    if (this.#closing !== undefined) return Promise.reject(unavailable("the store is closed"));
    try {
      return Promise.resolve(read());
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const message = `the tables in ${this.#parts.dataDir.path} cannot be read: ${reason}`;
      return Promise.reject(new ConnectError(message, Code.DataLoss, undefined, undefined, error));
    }
  }

  /** A journal that fails is a problem for a while only: nobody sends to a service that is not ready, so that none would find out. */
  problems(): string[] {
    const failed = this.#failure;
    const recent = failed !== undefined && this.#clock.monotonic() - failed.atMs < problemMs;
    const failures = [recent ? failed.error : undefined, this.#checkpoint.failure];
    return [...new Set(failures.flatMap((failure) => failure?.rawMessage ?? []))];
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { dataDir, journal, tables } = this.#parts;
    await this.#commits.close();
    try {
      await this.#checkpoint.finish();
    } catch {
      this.#log.warn("closing with part of the data in the journal alone; the next start reads it");
    }
    await journal.close();
    await tables.close();
    await dataDir.release();
  }
}
