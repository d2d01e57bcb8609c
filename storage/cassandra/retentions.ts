/** How long conversations are kept, in Cassandra, and the removal of what is not. */
import { hash32 } from "../../mesh/hash.ts";
import type { Retention } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { erasedEpoch } from "../erasure.ts";
import { noRetention } from "../retention.ts";
import type { Connection, Query } from "./connection.ts";
import type { Row } from "./nodes.ts";
import { bucketOf, bucketRecords } from "./rows.ts";

const parts = 64;
const partOf = (conversationId: string): number => hash32(conversationId) % parts;

export class RetentionRows {
  readonly #connection: Connection;
  readonly #keyspace: string;
  readonly #write: (queries: Query[]) => Promise<void>;

  constructor(
    connection: Connection,
    keyspace: string,
    write: (queries: Query[]) => Promise<void>,
  ) {
    this.#connection = connection;
    this.#keyspace = keyspace;
    this.#write = write;
  }

  /** The setting under its revision, floors under themselves: the higher wins. */
  async put(retention: Retention): Promise<void> {
    const { conversationId, retentionMs, revision, floorSeq, removedSeq } = retention;
    const query = `UPDATE ${this.#keyspace}.retentions USING TIMESTAMP ? SET setting = ?, floor = ?, removed = ? WHERE part = ? AND conversation_id = ?`;
    const part = partOf(conversationId);
    const row = (timestamp: number, ...columns: unknown[]): Query => ({
      query,
      params: [BigInt(timestamp), ...columns, part, conversationId],
      partition: `retentions ${part}`,
    });
    const setting = Buffer.alloc(12);
    setting.writeBigInt64BE(retentionMs);
    setting.writeUInt32BE(revision, 8);
    const queries = [row(revision, setting, undefined, undefined)];
    if (floorSeq > 0) queries.push(row(floorSeq, undefined, BigInt(floorSeq), undefined));
    if (removedSeq > 0) queries.push(row(removedSeq, undefined, undefined, BigInt(removedSeq)));
    await this.#write(queries);
  }

  async get(conversationId: string): Promise<Retention | undefined> {
    const query = `SELECT * FROM ${this.#keyspace}.retentions WHERE part = ? AND conversation_id = ?`;
    const { rows } = await this.#connection.read(query, [partOf(conversationId), conversationId]);
    return rows[0] === undefined ? undefined : retentionOf(rows[0]);
  }

  async *all(): AsyncGenerator<Retention, void> {
    const query = `SELECT * FROM ${this.#keyspace}.retentions WHERE part = ?`;
    for (let part = 0; part < parts; part += 1)
      for (const row of await this.#connection.rows(query, [part])) yield retentionOf(row);
  }

  /** All records up to the head, and what may be above it; then that there was a retention. */
  async remove(conversationId: string, headSeq: number): Promise<void> {
    await this.trim(conversationId, 1, (bucketOf(headSeq) + 2) * bucketRecords);
    const query = `DELETE FROM ${this.#keyspace}.retentions USING TIMESTAMP ? WHERE part = ? AND conversation_id = ?`;
    const part = partOf(conversationId);
    const params = [erasedEpoch, part, conversationId];
    await this.#write([{ query, params, partition: `retentions ${part}` }]);
  }

  /** A range of each partition, under a timestamp above all epochs. */
  async trim(conversationId: string, firstSeq: number, floorSeq: number): Promise<void> {
    const query = `DELETE FROM ${this.#keyspace}.log USING TIMESTAMP ? WHERE conversation_id = ? AND bucket = ? AND seq < ?`;
    const queries: Query[] = [];
    for (let bucket = bucketOf(firstSeq); bucket * bucketRecords < floorSeq; bucket += 1)
      queries.push({
        query,
        params: [erasedEpoch, conversationId, bucket, BigInt(floorSeq)],
        partition: `${conversationId} ${bucket}`,
      });
    await this.#write(queries);
  }
}

function retentionOf(row: Row): Retention {
  const setting: unknown = row["setting"];
  const bytes = setting instanceof Uint8Array ? Buffer.from(setting) : Buffer.alloc(12);
  return {
    ...noRetention(String(row["conversation_id"])),
    retentionMs: bytes.readBigInt64BE(),
    revision: bytes.readUInt32BE(8),
    floorSeq: Number(row["floor"] ?? 0n),
    removedSeq: Number(row["removed"] ?? 0n),
  };
}
