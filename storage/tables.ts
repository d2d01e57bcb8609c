/** The tables of the embedded store: what the journal held, in lmdb, for reading. It must not know what is newer. */
import { open } from "lmdb";
import type { Database, RootDatabase } from "lmdb";
import type {
  Cell,
  ConversationState,
  MediaHeader,
  Member,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import {
  readCell,
  readMedia,
  readMember,
  readState,
  Reader,
  writeMedia,
  writeMember,
  writeState,
  Writer,
} from "./codec.ts";
import type { EncodedCell } from "./conversation.ts";
import { writeError } from "./disk.ts";

export const formatVersion = 1;

/** Up to that many members, former ones included, are kept in the conversation's own row. */
export const inlineMembersMax = 16;

export const blockCellsMax = 64;
const blockBytesMax = 65_536;

export interface ConversationRow {
  readonly state: ConversationState;
  /** Whether the members have rows of their own; `members` is empty then. */
  readonly spilled: boolean;
  readonly members: readonly Member[];
}

type Table = Database<Buffer, Buffer>;

const asBytes = { encoding: "binary", keyEncoding: "binary" } as const;

/** What ends all keys that begin with an id and the 0 behind it. */
const idEnd = 1;

function idKey(id: string): Buffer {
  return Buffer.from(id);
}

/** An id, a 0, and what is below it; ids have no 0. */
function pairKey(id: string, below: string, end = 0): Buffer {
  return Buffer.from(`${id}${String.fromCharCode(end)}${below}`);
}

function seqKey(id: string, seq: number): Buffer {
  const length = Buffer.byteLength(id);
  const key = Buffer.allocUnsafe(length + 5);
  key.write(id);
  key[length] = 0;
  key.writeUInt32BE(seq, length + 1);
  return key;
}

const belowOf = (key: Buffer, id: string): string =>
  Buffer.from(key).toString("utf8", Buffer.byteLength(id) + 1);

export class Tables {
  readonly #folder: string;
  readonly #root: RootDatabase<Buffer, Buffer>;
  readonly #meta: Table;
  readonly #conversations: Table;
  readonly #log: Table;
  readonly #members: Table;
  readonly #memberships: Table;
  readonly #revoked: Table;
  readonly #lastSeen: Table;
  readonly #media: Table;

  constructor(folder: string, path: string) {
    this.#folder = folder;
    // One commit is under way at a time, so that nothing is won by syncs that overlap, and a commit that fails leaves nothing.
    // Without turn batching every promise that may reject is one that we hold.
    this.#root = open<Buffer, Buffer>(path, {
      ...asBytes,
      overlappingSync: false,
      eventTurnBatching: false,
      maxDbs: 16,
    });
    const table = (name: string): Table => this.#root.openDB<Buffer, Buffer>({ name, ...asBytes });
    this.#meta = table("meta");
    this.#conversations = table("conversations");
    this.#log = table("log");
    this.#members = table("members");
    this.#memberships = table("memberships");
    this.#revoked = table("revoked");
    this.#lastSeen = table("last-seen");
    this.#media = table("media");
  }

  /** 0 where the folder is new. */
  get format(): number {
    return this.#number("format");
  }

  /** The last group of the journal that is in the tables. */
  get applied(): number {
    return this.#number("applied");
  }

  #number(name: string): number {
    return this.#meta.get(idKey(name))?.readUIntBE(0, 6) ?? 0;
  }

  conversation(id: string): ConversationRow | undefined {
    const row = this.#conversations.get(idKey(id));
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
    for (const key of this.#conversations.getKeys()) yield Buffer.from(key).toString();
  }

  /** Of all media of all conversations. */
  *mediaHeaders(): Iterable<MediaHeader> {
    for (const { value } of this.#media.getRange()) yield readMedia(new Reader(value));
  }

  /** Of a conversation whose members have rows. */
  member(conversationId: string, userId: string): Member | undefined {
    const row = this.#members.get(pairKey(conversationId, userId));
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
    for (const { value } of this.#members.getRange({ start, end, limit })) {
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
    for (const key of this.#log.getKeys({ start, end: before, reverse: true, limit: 1 })) {
      start = Buffer.from(key);
    }
    const end = pairKey(conversationId, "", idEnd);
    for (const { value } of this.#log.getRange({ start, end })) {
      const from = new Reader(value);
      while (from.more) {
        const cell = readCell(from);
        if (cell.seq > lastSeq) return cells;
        if (cell.seq >= firstSeq) cells.push(cell);
      }
    }
    return cells;
  }

  conversationsOf(userId: string): string[] {
    const ids: string[] = [];
    const start = pairKey(userId, "");
    const end = pairKey(userId, "", idEnd);
    for (const key of this.#memberships.getKeys({ start, end })) ids.push(belowOf(key, userId));
    return ids;
  }

  isIndexed(userId: string, conversationId: string): boolean {
    return this.#memberships.doesExist(pairKey(userId, conversationId));
  }

  revoked(): string[] {
    return [...this.#revoked.getKeys()].map((key) => Buffer.from(key).toString());
  }

  lastSeen(userId: string): bigint {
    return this.#lastSeen.get(idKey(userId))?.readBigInt64BE() ?? 0n;
  }

  media(conversationId: string, mediaId: string): MediaHeader | undefined {
    const row = this.#media.get(pairKey(conversationId, mediaId));
    return row === undefined ? undefined : readMedia(new Reader(row));
  }

  /** Makes the rows durable, all or nothing. One at a time. */
  async write(rows: Rows): Promise<void> {
    try {
      await this.#root.batch(() => {
        for (const { table, key, value } of rows.puts) void this.#table(table).put(key, value);
      });
    } catch (error) {
      throw writeError(this.#folder, await causeOf(error));
    }
  }

  #table(name: TableName): Table {
    switch (name) {
      case "meta":
        return this.#meta;
      case "conversations":
        return this.#conversations;
      case "log":
        return this.#log;
      case "members":
        return this.#members;
      case "memberships":
        return this.#memberships;
      case "revoked":
        return this.#revoked;
      case "last-seen":
        return this.#lastSeen;
      case "media":
        return this.#media;
    }
  }

  async close(): Promise<void> {
    await this.#root.close();
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

type TableName =
  "meta" | "conversations" | "log" | "members" | "memberships" | "revoked" | "last-seen" | "media";

const empty = Buffer.of(0);

const rowBytes = 1_048_576;

/** The rows of one write after the other: `clear` when one is durable. */
export class Rows {
  readonly puts: { table: TableName; key: Buffer; value: Buffer }[] = [];
  #values = new Writer(rowBytes + 2 * blockBytesMax);

  clear(): void {
    this.puts.length = 0;
    if (this.#values.length > 2 * rowBytes) this.#values = new Writer(rowBytes + 2 * blockBytesMax);
    this.#values.reset();
  }

  get full(): boolean {
    return this.puts.length >= 1_500 || this.#values.length > rowBytes;
  }

  #put(table: TableName, key: Buffer, from: number): void {
    this.puts.push({ table, key, value: this.#values.slice(from) });
  }

  number(name: "format" | "applied", value: number): void {
    const bytes = Buffer.alloc(6);
    bytes.writeUIntBE(value, 0, 6);
    this.puts.push({ table: "meta", key: idKey(name), value: bytes });
  }

  conversation(id: string, { state, spilled, members }: ConversationRow): void {
    const from = this.#values.length;
    this.#values.byte(spilled ? 1 : 0);
    writeState(this.#values, state);
    for (const member of members) writeMember(this.#values, member);
    this.#put("conversations", idKey(id), from);
  }

  member(conversationId: string, member: Member): void {
    const from = this.#values.length;
    writeMember(this.#values, member);
    this.#put("members", pairKey(conversationId, member.userId), from);
  }

  membership(userId: string, conversationId: string): void {
    this.puts.push({ table: "memberships", key: pairKey(userId, conversationId), value: empty });
  }

  /** Cells that follow on one another, blockCellsMax at most, as blocks of bounded size. */
  cells(conversationId: string, firstSeq: number, cells: readonly EncodedCell[]): void {
    let from = this.#values.length;
    let blockSeq = firstSeq;
    for (const [index, { region, from: start, to: end }] of cells.entries()) {
      const full = this.#values.length - from + (end - start) > blockBytesMax;
      if (full && this.#values.length > from) {
        this.#put("log", seqKey(conversationId, blockSeq), from);
        from = this.#values.length;
        blockSeq = firstSeq + index;
      }
      this.#values.copy(region.bytes, region.base + start, region.base + end);
    }
    if (this.#values.length > from) this.#put("log", seqKey(conversationId, blockSeq), from);
  }

  revoked(incarnation: string): void {
    this.puts.push({ table: "revoked", key: idKey(incarnation), value: empty });
  }

  lastSeen(userId: string, timeMs: bigint): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64BE(timeMs);
    this.puts.push({ table: "last-seen", key: idKey(userId), value: bytes });
  }

  media(header: MediaHeader): void {
    const from = this.#values.length;
    writeMedia(this.#values, header);
    this.#put("media", pairKey(header.conversationId, header.mediaId), from);
  }
}
