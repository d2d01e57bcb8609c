/** The tables of the embedded store: what the journal held, in lmdb, for reading. It must not know what is newer. */
import { chmod, rename, rm } from "node:fs/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { open } from "lmdb";
import type { Database, RootDatabase } from "lmdb";
import {
  ErasureReceiptSchema,
  RetentionSchema,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import type {
  Cell,
  ConversationState,
  ErasureReceipt,
  MediaHeader,
  Member,
  Retention,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { readCell, readMedia, readMember, readState, Reader } from "./codec.ts";
import { syncFile, syncFolder, writeError } from "./disk.ts";
import { belowOf, idEnd, idKey, pairKey, seqKey, storeIdKey } from "./keys.ts";
import type { OwnUpload, Upload } from "./ports.ts";
import type { Rows, TableName } from "./rows.ts";

export const formatVersion = 1;

/** Up to that many members, former ones included, are kept in the conversation's own row. */
export const inlineMembersMax = 16;

export const blockCellsMax = 64;

export interface ConversationRow {
  readonly state: ConversationState;
  /** Whether the members have rows of their own; `members` is empty then. */
  readonly spilled: boolean;
  readonly members: readonly Member[];
}

type Table = Database<Buffer, Buffer>;

const asBytes = { encoding: "binary", keyEncoding: "binary" } as const;

/** Some cells that follow on one another, and their row's key. */
export interface Block {
  readonly key: Buffer;
  readonly cells: readonly Cell[];
}

function blockOf(key: Buffer, value: Buffer): Block {
  const from = new Reader(Buffer.from(value));
  const cells: Cell[] = [];
  while (from.more) cells.push(readCell(from));
  return { key: Buffer.from(key), cells };
}

/** The file as lmdb has it open. */
interface Opened {
  readonly root: RootDatabase<Buffer, Buffer>;
  readonly tables: Readonly<Record<TableName, Table>>;
}

function opened(path: string): Opened {
  // One commit is under way at a time, so that nothing is won by syncs that overlap, and a commit that fails leaves nothing.
  // Without turn batching every promise that may reject is one that we hold.
  const root = open<Buffer, Buffer>(path, {
    ...asBytes,
    overlappingSync: false,
    eventTurnBatching: false,
    maxDbs: 16,
  });
  const table = (name: TableName): Table => root.openDB<Buffer, Buffer>({ name, ...asBytes });
  const tables = {
    meta: table("meta"),
    conversations: table("conversations"),
    log: table("log"),
    members: table("members"),
    memberships: table("memberships"),
    revoked: table("revoked"),
    "last-seen": table("last-seen"),
    media: table("media"),
    uploads: table("uploads"),
    erasures: table("erasures"),
    retentions: table("retentions"),
  };
  return { root, tables };
}

export class Tables {
  readonly #folder: string;
  readonly #path: string;
  #opened: Opened;

  constructor(folder: string, path: string) {
    this.#folder = folder;
    this.#path = path;
    this.#opened = opened(path);
  }

  #table(name: TableName): Table {
    return this.#opened.tables[name];
  }

  /** 0 where the folder is new. */
  get format(): number {
    return this.#number("format");
  }

  /** The last group of the journal that is in the tables. */
  get applied(): number {
    return this.#number("applied");
  }

  /** Empty where there is none yet: in a new folder, and in a backup. */
  get storeId(): string {
    return this.#table("meta").get(storeIdKey)?.toString() ?? "";
  }

  #number(name: string): number {
    return this.#table("meta").get(idKey(name))?.readUIntBE(0, 6) ?? 0;
  }

  conversation(id: string): ConversationRow | undefined {
    const row = this.#table("conversations").get(idKey(id));
    if (row === undefined) return undefined;
    const from = new Reader(row);
    const spilled = from.byte() === 1;
    const state = readState(from);
    const members: Member[] = [];
    while (from.more) members.push(readMember(from));
    return { state, spilled, members };
  }

  /** Of all conversations, in order. */
  *conversationIds(): Iterable<string> {
    for (const key of this.#table("conversations").getKeys()) yield Buffer.from(key).toString();
  }

  /** Of all media of all conversations. */
  *mediaHeaders(): Iterable<MediaHeader> {
    for (const { value } of this.#table("media").getRange()) yield readMedia(new Reader(value));
  }

  /** Of a conversation whose members have rows. */
  member(conversationId: string, userId: string): Member | undefined {
    const row = this.#table("members").get(pairKey(conversationId, userId));
    return row === undefined ? undefined : readMember(new Reader(row));
  }

  /** Of a conversation whose members have rows, by user id. */
  membersAfter(conversationId: string, afterUserId: string, limit: number): Member[] {
    const members: Member[] = [];
    // The least key behind an id's own is that with another 0.
    const start =
      afterUserId === ""
        ? pairKey(conversationId, "")
        : pairKey(conversationId, `${afterUserId}\0`);
    const end = pairKey(conversationId, "", idEnd);
    for (const { value } of this.#table("members").getRange({ start, end, limit })) {
      members.push(readMember(new Reader(value)));
    }
    return members;
  }

  /** In order of seq. */
  cells(conversationId: string, firstSeq: number, lastSeq: number): Cell[] {
    const cells: Cell[] = [];
    if (firstSeq > lastSeq) return cells;
    let start = seqKey(conversationId, firstSeq);
    const before = pairKey(conversationId, "");
    for (const key of this.#table("log").getKeys({ start, end: before, reverse: true, limit: 1 })) {
      start = Buffer.from(key);
    }
    const end = pairKey(conversationId, "", idEnd);
    for (const { value } of this.#table("log").getRange({ start, end })) {
      const from = new Reader(value);
      while (from.more) {
        const cell = readCell(from);
        if (cell.seq > lastSeq) return cells;
        if (cell.seq >= firstSeq) cells.push(cell);
      }
    }
    return cells;
  }

  /** The block that a cell is in; undefined where there is none. */
  block(conversationId: string, seq: number): Block | undefined {
    const end = pairKey(conversationId, "");
    const start = seqKey(conversationId, seq);
    const found = this.#table("log").getRange({ start, end, reverse: true, limit: 1 });
    for (const { key, value } of found) return blockOf(key, value);
    return undefined;
  }

  /** The first of a conversation's blocks, those that begin below `floorSeq`. */
  blocksBelow(conversationId: string, floorSeq: number, limit: number): Block[] {
    const start = seqKey(conversationId, 0);
    const end = seqKey(conversationId, floorSeq);
    const found = this.#table("log").getRange({ start, end, limit });
    return [...found].map(({ key, value }) => blockOf(key, value));
  }

  /** Of all of a conversation's blocks. */
  blockKeys(conversationId: string): Buffer[] {
    const start = seqKey(conversationId, 0);
    const end = pairKey(conversationId, "", idEnd);
    return [...this.#table("log").getKeys({ start, end })].map((key) => Buffer.from(key));
  }

  retention(conversationId: string): Retention | undefined {
    const row = this.#table("retentions").get(idKey(conversationId));
    return row === undefined ? undefined : fromBinary(RetentionSchema, row);
  }

  *retentions(): Generator<Retention, void> {
    for (const { value } of this.#table("retentions").getRange())
      yield fromBinary(RetentionSchema, Buffer.from(value));
  }

  conversationsOf(userId: string): string[] {
    const ids: string[] = [];
    const start = pairKey(userId, "");
    const end = pairKey(userId, "", idEnd);
    for (const key of this.#table("memberships").getKeys({ start, end }))
      ids.push(belowOf(key, userId));
    return ids;
  }

  isIndexed(userId: string, conversationId: string): boolean {
    return this.#table("memberships").doesExist(pairKey(userId, conversationId));
  }

  revoked(): string[] {
    return [...this.#table("revoked").getKeys()].map((key) => Buffer.from(key).toString());
  }

  lastSeen(userId: string): bigint {
    return this.#table("last-seen").get(idKey(userId))?.readBigInt64BE() ?? 0n;
  }

  media(conversationId: string, mediaId: string): MediaHeader | undefined {
    const row = this.#table("media").get(pairKey(conversationId, mediaId));
    return row === undefined ? undefined : readMedia(new Reader(row));
  }

  erasure(hash: string): ErasureReceipt | undefined {
    const row = this.#table("erasures").get(idKey(hash));
    return row === undefined ? undefined : fromBinary(ErasureReceiptSchema, row);
  }

  /** Those of a user; without one, everybody's. */
  *uploads(userId?: string): Generator<OwnUpload, void> {
    const range =
      userId === undefined ? {} : { start: pairKey(userId, ""), end: pairKey(userId, "", idEnd) };
    for (const key of this.#table("uploads").getKeys(range)) {
      const [owner = "", conversationId = "", mediaId = ""] = Buffer.from(key)
        .toString()
        .split("\0");
      yield { userId: owner, conversationId, mediaId };
    }
  }

  /** Which medium is in which conversation. */
  *allMedia(): Generator<Upload, void> {
    for (const key of this.#table("media").getKeys()) {
      const [conversationId = "", mediaId = ""] = Buffer.from(key).toString().split("\0");
      yield { conversationId, mediaId };
    }
  }

  /**
   * Makes the file anew, without what lmdb leaves in pages and parts of pages that it does not use. Not while rows are written; reads go
   * on. Needs room for a second file.
   */
  async compact(): Promise<void> {
    const next = `${this.#path}.next`;
    let made: Opened;
    try {
      await rm(next, { force: true });
      await rm(`${next}-lock`, { force: true });
      await this.#opened.root.backup(next, true);
      made = opened(next);
      await chmod(next, 0o600);
      await chmod(`${next}-lock`, 0o600);
      await syncFile(next);
    } catch (error) {
      await rm(next, { force: true });
      throw writeError(this.#folder, error);
    }
    const old = this.#opened;
    this.#opened = made;
    await rename(`${next}-lock`, `${this.#path}-lock`);
    await rename(next, this.#path);
    await syncFolder(this.#folder);
    await old.root.close();
  }

  /** Makes the rows durable, all or nothing. One at a time. */
  async write(rows: Rows): Promise<void> {
    try {
      await this.#opened.root.batch(() => {
        for (const { table, key, value } of rows.puts) {
          if (value === undefined) void this.#table(table).remove(key);
          else void this.#table(table).put(key, value);
        }
      });
    } catch (error) {
      throw writeError(this.#folder, await causeOf(error));
    }
  }

  async close(): Promise<void> {
    await this.#opened.root.close();
  }
}

/** lmdb says why in a promise of its own, which rejects a little later and must not do so unheard. */
async function causeOf(error: unknown): Promise<unknown> {
  if (!(error instanceof Error) || !("commitError" in error)) return error;
  try {
    return await error.commitError;
  } catch (cause) {
    return cause;
  }
}
