/** The rows of one write to the embedded store's tables. */
import { toBinary } from "@bufbuild/protobuf";
import {
  type ErasureReceipt,
  ErasureReceiptSchema,
  type MediaHeader,
  type Member,
  type Retention,
  RetentionSchema,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { writeCell, writeMedia, writeMember, Writer, writeState } from "./codec.ts";
import type { EncodedCell } from "./conversation.ts";
import { idKey, pairKey, seqKey, storeIdKey } from "./keys.ts";
import type { OwnUpload } from "./ports.ts";
import type { Block, ConversationRow } from "./tables.ts";

export type TableName =
  | "meta"
  | "conversations"
  | "log"
  | "members"
  | "memberships"
  | "revoked"
  | "last-seen"
  | "media"
  | "uploads"
  | "erasures"
  | "retentions";

const blockBytesMax = 65_536;

const empty = Buffer.of(0);

const rowBytes = 1_048_576;

/** The rows of one write after the other: `clear` when one is durable. */
export class Rows {
  /** Without a value: the row goes. */
  readonly puts: { table: TableName; key: Buffer; value: Buffer | undefined }[] = [];
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

  /** The store's own. */
  storeId(id: string): void {
    this.puts.push({ table: "meta", key: storeIdKey, value: Buffer.from(id) });
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

  /** What a block has from now on; nothing: it goes. */
  block({ key, cells }: Block): void {
    if (cells.length === 0) return this.#remove("log", key);
    const from = this.#values.length;
    for (const cell of cells) writeCell(this.#values, cell);
    this.#put("log", key, from);
  }

  /** Undefined: it goes. */
  retention(conversationId: string, retention: Retention | undefined): void {
    const key = idKey(conversationId);
    if (retention === undefined) return this.#remove("retentions", key);
    const value = Buffer.from(toBinary(RetentionSchema, retention));
    this.puts.push({ table: "retentions", key, value });
  }

  removeConversation(id: string): void {
    this.#remove("conversations", idKey(id));
  }

  #remove(table: TableName, key: Buffer): void {
    this.puts.push({ table, key, value: undefined });
  }

  /** A former member, with or without a row of its own. */
  removeMember(conversationId: string, userId: string, withRow: boolean): void {
    if (withRow) this.#remove("members", pairKey(conversationId, userId));
    this.#remove("memberships", pairKey(userId, conversationId));
  }

  revoked(incarnation: string): void {
    this.puts.push({ table: "revoked", key: idKey(incarnation), value: empty });
  }

  /** 0: never. */
  lastSeen(userId: string, timeMs: bigint): void {
    if (timeMs === 0n) return this.#remove("last-seen", idKey(userId));
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64BE(timeMs);
    this.puts.push({ table: "last-seen", key: idKey(userId), value: bytes });
  }

  upload({ userId, conversationId, mediaId }: OwnUpload, there: boolean): void {
    const key = pairKey(userId, `${conversationId}\0${mediaId}`);
    if (there) this.puts.push({ table: "uploads", key, value: empty });
    else this.#remove("uploads", key);
  }

  erasure(receipt: ErasureReceipt): void {
    const value = Buffer.from(toBinary(ErasureReceiptSchema, receipt));
    this.puts.push({ table: "erasures", key: idKey(receipt.userHash), value });
  }

  removeMedia(conversationId: string, mediaId: string): void {
    this.#remove("media", pairKey(conversationId, mediaId));
  }

  media(header: MediaHeader): void {
    const from = this.#values.length;
    writeMedia(this.#values, header);
    this.#put("media", pairKey(header.conversationId, header.mediaId), from);
  }
}
