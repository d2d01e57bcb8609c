/** What an erasure changes in Cassandra. Of deletions whose rows may come again the timestamps are counted up, of others they are above all. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { directUsers } from "../../mesh/ids.ts";
import {
  type Cell,
  type ErasureReceipt,
  ErasureReceiptSchema,
  type MediaHeader,
  MediaHeaderSchema,
} from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { erasedEpoch, userHash } from "../erasure.ts";
import type { Upload, Use } from "../ports.ts";
import type { Connection, Query } from "./connection.ts";
import type { Statement } from "./nodes.ts";
import { blob, cellQueries, type Statements } from "./rows.ts";

/** So that a row can be removed and come again so often, and a deletion by one's own clock is not needed. */
const triesMax = 60;
const readsAtOnce = 128;

type Write = (queries: Query[]) => Promise<void>;

export class Erasures {
  readonly #connection: Connection;
  readonly #keyspace: string;
  readonly #statements: Statements;
  readonly #write: Write;

  constructor(connection: Connection, keyspace: string, statements: Statements, write: Write) {
    this.#connection = connection;
    this.#keyspace = keyspace;
    this.#statements = statements;
    this.#write = write;
  }

  async put(receipt: ErasureReceipt): Promise<void> {
    const query = `INSERT INTO ${this.#keyspace}.erasures (user_hash, receipt) VALUES (?, ?) USING TIMESTAMP ?`;
    const bytes = blob(toBinary(ErasureReceiptSchema, receipt));
    const { userHash: hash, revision } = receipt;
    await this.#write([{ query, params: [hash, bytes, BigInt(revision)], partition: hash }]);
  }

  /** In the order asked. */
  async get(userIds: readonly string[]): Promise<(ErasureReceipt | undefined)[]> {
    const receipts: (ErasureReceipt | undefined)[] = [];
    for (let at = 0; at < userIds.length; at += readsAtOnce) {
      const some = userIds.slice(at, at + readsAtOnce);
      receipts.push(...(await Promise.all(some.map((userId) => this.#one(userId)))));
    }
    return receipts;
  }

  async #one(userId: string): Promise<ErasureReceipt | undefined> {
    const query = `SELECT receipt FROM ${this.#keyspace}.erasures WHERE user_hash = ?`;
    const { rows } = await this.#connection.read(query, [userHash(userId)]);
    const receipt: unknown = rows[0]?.["receipt"];
    return receipt instanceof Uint8Array ? fromBinary(ErasureReceiptSchema, receipt) : undefined;
  }

  /** Under an epoch above all others: whoever writes these places later, or late, is not heard. */
  async rewrite(conversationId: string, cells: readonly Cell[]): Promise<void> {
    const write = {
      $typeName: "parley.storage.v1.ConversationWrite" as const,
      conversationId,
      cells: cells.map((cell) => ({ ...cell, epoch: erasedEpoch })),
      state: undefined,
      indexUserIds: [],
      members: [],
    };
    await this.#write(cellQueries(this.#statements, write));
  }

  /** The index row last, by which whoever goes on finds what is left to do. */
  async forgetMember(conversationId: string, userId: string): Promise<void> {
    const where = "WHERE conversation_id = ? AND user_id = ?";
    const params = [conversationId, userId];
    if (directUsers(conversationId) === undefined)
      await this.#write([this.#removal("groups", where, params, conversationId)]);
    await this.#write([this.#removal("user_index", where, params, userId)]);
  }

  /** What a group that nobody has any more is called, and how long it was. */
  async removeHead(conversationId: string): Promise<void> {
    if (directUsers(conversationId) !== undefined) return;
    const params = [erasedEpoch, null, conversationId];
    const query = this.#statements.groupHead;
    await this.#write([{ query, params, partition: conversationId }]);
  }

  async forgetUser(userId: string): Promise<void> {
    // Of a group whose member's row went before the process did nothing else tells.
    const query = `SELECT conversation_id FROM ${this.#keyspace}.user_index WHERE user_id = ?`;
    const where = "WHERE conversation_id = ? AND user_id = ?";
    for (const row of await this.#connection.rows(query, [userId]))
      await this.#write([
        this.#removal("user_index", where, [row["conversation_id"], userId], userId),
      ]);
    await this.#write([this.#removal("last_seen", "WHERE user_id = ?", [userId], userId)]);
  }

  #removal(
    table: string,
    where: string,
    params: readonly unknown[],
    partition: string,
    timestamp = erasedEpoch,
  ): Query {
    const query = `DELETE FROM ${this.#keyspace}.${table} USING TIMESTAMP ? ${where}`;
    return { query, params: [timestamp, ...params], partition };
  }

  /** Whose upload a medium is, both ways. */
  async putUpload({ conversationId, mediaId }: Upload, userId: string): Promise<void> {
    for (const row of uploadRows(conversationId, mediaId, userId)) {
      const [first, second] = row.columns;
      const query = `INSERT INTO ${this.#keyspace}.${row.table} (${first}, ${second}) VALUES (?, ?) USING TIMESTAMP ?`;
      await this.#until(true, row, (timestamp) => ({ query, params: [...row.key, timestamp] }));
    }
  }

  async putMedia(header: MediaHeader): Promise<void> {
    const row = mediaRow(header);
    const query = `INSERT INTO ${this.#keyspace}.media (conversation_id, media_id, header) VALUES (?, ?, ?) USING TIMESTAMP ?`;
    const bytes = blob(toBinary(MediaHeaderSchema, header));
    const write = (timestamp: bigint): Statement => ({
      query,
      params: [...row.key, bytes, timestamp],
    });
    await this.#until(true, row, write);
  }

  #remove(row: KeyRow): Promise<void> {
    const [first, second] = row.columns;
    const query = `DELETE FROM ${this.#keyspace}.${row.table} USING TIMESTAMP ? WHERE ${first} = ? AND ${second} = ?`;
    return this.#until(false, row, (timestamp) => ({ query, params: [timestamp, ...row.key] }));
  }

  /** Writes under higher and higher timestamps until the row is there, or is not: what was written or deleted before is below one of them. */
  async #until(
    there: boolean,
    { table, columns, key }: KeyRow,
    write: (timestamp: bigint) => Statement,
  ): Promise<void> {
    const [first, second] = columns;
    const query = `SELECT ${first} FROM ${this.#keyspace}.${table} WHERE ${first} = ? AND ${second} = ?`;
    const partition = table === "media" ? key.join(" ") : key[0];
    for (let tries = 0; tries < triesMax; tries += 1) {
      const { rows } = await this.#connection.read(query, key);
      if (rows.length > 0 === there) return;
      await this.#write([{ ...write(2n ** BigInt(tries)), partition }]);
    }
  }

  async uploads(userId: string): Promise<Upload[]> {
    const query = `SELECT medium FROM ${this.#keyspace}.uploads WHERE user_id = ?`;
    const rows = await this.#connection.rows(query, [userId]);
    return rows.map((row) => {
      const [conversationId = "", mediaId = ""] = String(row["medium"]).split(" ");
      return { conversationId, mediaId };
    });
  }

  /** Of what was uploaded before uploads named their users nobody knows who else has it: its bytes are kept. */
  async usesOf(
    conversationId: string,
    userId: string,
    mediaIds: readonly string[],
    read: (mediaId: string) => Promise<MediaHeader | undefined>,
  ): Promise<Use[]> {
    const query = `SELECT upload FROM ${this.#keyspace}.media_uses WHERE media_id = ?`;
    const own = `${conversationId} ${userId}`;
    const uses: Use[] = [];
    for (const mediaId of mediaIds) {
      const rows = await this.#connection.rows(query, [mediaId]);
      const uploads = rows.map((row) => String(row["upload"]));
      const others = uploads.some(
        (upload) => upload !== own && upload.startsWith(`${conversationId} `),
      );
      const elsewhere = uploads.length === 0 || uploads.some((upload) => upload !== own);
      const there = (await read(mediaId)) !== undefined;
      uses.push({ mediaId, there, others, elsewhere });
    }
    return uses;
  }

  async removeUpload(
    { conversationId, mediaId }: Upload,
    userId: string,
    withHeader: boolean,
  ): Promise<void> {
    if (withHeader) await this.#remove(mediaRow({ conversationId, mediaId }));
    // The upload last, by which whoever goes on finds what is left to do.
    for (const row of uploadRows(conversationId, mediaId, userId)) await this.#remove(row);
  }
}

/** A row that has two columns for its key. */
interface KeyRow {
  readonly table: "media" | "media_uses" | "uploads";
  readonly columns: readonly [string, string];
  readonly key: readonly [string, string];
}

const mediaRow = ({ conversationId, mediaId }: Upload): KeyRow => ({
  table: "media",
  columns: ["conversation_id", "media_id"],
  key: [conversationId, mediaId],
});

const uploadRows = (conversationId: string, mediaId: string, userId: string): KeyRow[] => [
  {
    table: "media_uses",
    columns: ["media_id", "upload"],
    key: [mediaId, `${conversationId} ${userId}`],
  },
  {
    table: "uploads",
    columns: ["user_id", "medium"],
    key: [userId, `${conversationId} ${mediaId}`],
  },
];
