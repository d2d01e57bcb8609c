/** The store of a cluster. Owners are fenced by the order of its steps: cells, then the check of the revocation, then the index. */
import { setMaxListeners } from "node:events";
import { types } from "cassandra-driver";
import { ConnectError, Code } from "@connectrpc/connect";
import { invalid, unavailable } from "../../mesh/errors.ts";
import { noMetrics } from "../../mesh/metrics.ts";
import {
  type AppendRequest,
  type Cell,
  type ConversationState,
  type ErasureReceipt,
  type IndexRow,
  type LastSeen,
  type MediaHeader,
  type Member,
  type Retention,
} from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import type { CassandraConfig } from "../config.ts";
import { conflictError, revokedError, UnknownOutcome } from "../errors.ts";
import { chainRefusal } from "../history.ts";
import type { Membership, Opened, Store, Upload, Use } from "../ports.ts";
import { malformed } from "../shape.ts";
import { Connection, connected, type Outside, patiently, type Query } from "./connection.ts";
import { Erasures } from "./erasures.ts";
import { DriverNodes } from "./nodes.ts";
import { RaisedHeads } from "./raised.ts";
import { Reads } from "./reads.ts";
import { RetentionRows } from "./retentions.ts";
import { Revocations } from "./revocations.ts";
import { cellQueries, indexQueries, type Statements, statementsOf } from "./rows.ts";
import { mismatch, storeIdOf } from "./schema.ts";
import { Writer } from "./writer.ts";

const { localQuorum, quorum } = types.consistencies;

/**
 * Connects, for as long as it takes, and checks that the schema is the one it knows. Rejects where that is not so: waiting would not
 * help.
 */
export async function openCassandraStore(
  config: CassandraConfig,
  outside: Outside,
  signal?: AbortSignal,
): Promise<Store> {
  const client = await connected(config, outside, signal);
  let id: string;
  try {
    const wrong = await patiently(outside, signal, () => mismatch(client, config));
    if (wrong !== undefined) throw new ConnectError(wrong, Code.FailedPrecondition);
    id = await patiently(outside, signal, () => storeIdOf(client, config.keyspace));
  } catch (error) {
    await client.shutdown();
    throw error;
  }
  const nodes = new DriverNodes(client, config.datacenter);
  return new CassandraStore(new Connection(nodes, config, outside), config, outside, id);
}

export class CassandraStore implements Store {
  readonly id: string;
  readonly #connection: Connection;
  readonly #keyspace: string;
  readonly #statements: Statements;
  readonly #revocations: Revocations;
  readonly #reads: Reads;
  readonly #erasures: Erasures;
  readonly #retentions: RetentionRows;
  readonly #writer: Writer;
  readonly #raised = new RaisedHeads();
  readonly #closing = new AbortController();
  /** The last batch of each conversation that is under way: of one conversation one is written at a time. */
  readonly #tails = new Map<string, Promise<void>>();
  readonly #underWay = new Set<Promise<void>>();

  constructor(
    connection: Connection,
    { keyspace }: CassandraConfig,
    { clock, log, metrics = noMetrics }: Outside,
    id = "",
  ) {
    this.id = id;
    this.#connection = connection;
    this.#keyspace = keyspace;
    this.#statements = statementsOf(keyspace);
    const write = (queries: Query[]): Promise<void> => this.#write(queries);
    this.#erasures = new Erasures(connection, keyspace, this.#statements, write);
    this.#retentions = new RetentionRows(connection, keyspace, write);
    this.#reads = new Reads(connection, keyspace, this.#erasures);
    this.#revocations = new Revocations(clock, (incarnation) => this.#reads.isRevoked(incarnation));
    // Every write that is tried again waits for it, too.
    setMaxListeners(0, this.#closing.signal);
    this.#writer = new Writer(connection, this.#closing.signal, log, metrics);
  }

  async append(batch: AppendRequest, committed: () => void): Promise<void> {
    if (this.#closing.signal.aborted) throw new UnknownOutcome();
    check(batch);
    this.#connection.admit();
    if (this.#revocations.known(batch.incarnation)) throw revokedError(batch.incarnation);
    const before = batch.writes.flatMap(
      ({ conversationId }) => this.#tails.get(conversationId) ?? [],
    );
    // What builds on a batch that failed fails for the same reason.
    const kept =
      before.length === 0
        ? this.#keep(batch, committed)
        : Promise.all(before).then(() => this.#keep(batch, committed));
    for (const { conversationId } of batch.writes) this.#tails.set(conversationId, kept);
    this.#underWay.add(kept);
    try {
      await kept;
    } finally {
      this.#underWay.delete(kept);
      for (const { conversationId } of batch.writes)
        if (this.#tails.get(conversationId) === kept) this.#tails.delete(conversationId);
    }
  }

  async #keep({ incarnation, writes }: AppendRequest, committed: () => void): Promise<void> {
    const keep = (queries: Query[]): Promise<void> =>
      this.#writer.keep(queries, localQuorum, () => this.#stopIfRevoked(incarnation));
    await keep(writes.flatMap((write) => cellQueries(this.#statements, write)));
    await this.#checkRevocation(incarnation);
    committed();
    const index = writes.map((write) =>
      indexQueries(this.#statements, write, this.#raised.toRaise(write)),
    );
    await keep(index.flatMap(({ before }) => before));
    await keep(index.flatMap(({ last }) => last));
    for (const write of writes) this.#raised.raised(write);
  }

  /** By a read that begins now or later, and until its answer is known. */
  async #checkRevocation(incarnation: string): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      try {
        if (!(await this.#revocations.check(incarnation))) return;
        break;
      } catch {
        await this.#connection.backOff(tries, this.#closing.signal).catch(() => {
          throw new UnknownOutcome();
        });
      }
    }
    throw revokedError(incarnation);
  }

  /** While Cassandra does not answer writes: whoever was revoked meanwhile need not go on. */
  async #stopIfRevoked(incarnation: string): Promise<void> {
    const revoked = await this.#revocations.check(incarnation).catch(() => false);
    if (revoked) throw revokedError(incarnation);
  }

  async revoke(incarnation: string): Promise<void> {
    if (incarnation === "") throw invalid("the incarnation is missing");
    const query = `INSERT INTO ${this.#keyspace}.revoked (incarnation, revoked) VALUES (?, true) USING TIMESTAMP 1`;
    await this.#write([{ query, params: [incarnation], partition: incarnation }], quorum);
  }

  async putLastSeen(seen: readonly LastSeen[]): Promise<void> {
    const query = `UPDATE ${this.#keyspace}.last_seen USING TIMESTAMP ? SET time_ms = ? WHERE user_id = ?`;
    await this.#write(
      seen.map(({ userId, timeMs }) => ({
        query,
        params: [timeMs, timeMs, userId],
        partition: userId,
      })),
    );
  }

  async putMedia(header: MediaHeader, uploaderId: string): Promise<void> {
    if (uploaderId !== "") await this.#erasures.putUpload(header, uploaderId);
    await this.#erasures.putMedia(header);
  }

  putErasure(receipt: ErasureReceipt): Promise<void> {
    return this.#erasures.put(receipt);
  }

  async erasures(userIds: readonly string[]): Promise<(ErasureReceipt | undefined)[]> {
    this.#open();
    return this.#erasures.get(userIds);
  }

  async rewrite(
    conversationId: string,
    cells: readonly Cell[],
    receipt: ErasureReceipt,
  ): Promise<void> {
    await this.#erasures.rewrite(conversationId, cells);
    await this.#erasures.put(receipt);
  }

  async forgetMember(
    conversationId: string,
    userId: string,
    receipt: ErasureReceipt,
  ): Promise<void> {
    await this.#erasures.forgetMember(conversationId, userId);
    await this.#erasures.put(receipt);
  }

  async removeConversation(conversationId: string): Promise<void> {
    const headSeq = (await this.conversation(conversationId))?.headSeq ?? 0;
    await this.#retentions.remove(conversationId, headSeq);
    await this.#erasures.removeHead(conversationId);
  }

  forgetUser(userId: string): Promise<void> {
    return this.#erasures.forgetUser(userId);
  }

  async uploads(userId: string): Promise<Upload[]> {
    this.#open();
    return this.#erasures.uploads(userId);
  }

  async usesOf(
    conversationId: string,
    userId: string,
    mediaIds: readonly string[],
  ): Promise<Use[]> {
    const read = (mediaId: string): Promise<MediaHeader | undefined> =>
      this.media(conversationId, mediaId);
    return this.#erasures.usesOf(conversationId, userId, mediaIds, read);
  }

  removeUpload(
    conversationId: string,
    mediaId: string,
    userId: string,
    withHeader: boolean,
  ): Promise<void> {
    return this.#erasures.removeUpload({ conversationId, mediaId }, userId, withHeader);
  }

  putRetention(retention: Retention): Promise<void> {
    return this.#retentions.put(retention);
  }

  async retention(conversationId: string): Promise<Retention | undefined> {
    this.#open();
    return this.#retentions.get(conversationId);
  }

  async *retentions(): AsyncGenerator<Retention, void> {
    this.#open();
    yield* this.#retentions.all();
  }

  trim(conversationId: string, firstSeq: number, floorSeq: number): Promise<void> {
    return this.#retentions.trim(conversationId, firstSeq, floorSeq);
  }

  /** What was replaced and deleted leaves the files by compaction, after gc_grace_seconds: Cassandra's own affair. */
  scrub(): Promise<void> {
    return Promise.resolve();
  }

  /** What may be tried again by whoever asks for it. */
  async #write(queries: Query[], consistency = localQuorum): Promise<void> {
    this.#open();
    const kept = this.#writer.keep(queries, consistency).catch((error: unknown) => {
      throw error instanceof UnknownOutcome ? unavailable(error.message) : error;
    });
    this.#underWay.add(kept);
    await kept.finally(() => this.#underWay.delete(kept));
  }

  async conversation(conversationId: string): Promise<ConversationState | undefined> {
    return this.#open().conversation(conversationId);
  }

  async opened(conversationId: string, membersMax: number): Promise<Opened> {
    return this.#open().opened(conversationId, membersMax);
  }

  async membership(conversationId: string, userId: string): Promise<Membership | undefined> {
    return this.#open().membership(conversationId, userId);
  }

  async cells(conversationId: string, firstSeq: number, lastSeq: number): Promise<Cell[]> {
    return this.#open().cells(conversationId, firstSeq, lastSeq);
  }

  async members(
    conversationId: string,
    userIds: readonly string[],
  ): Promise<(Member | undefined)[]> {
    return this.#open().members(conversationId, userIds);
  }

  async membersAfter(
    conversationId: string,
    afterUserId: string,
    limit: number,
  ): Promise<Member[]> {
    return this.#open().membersAfter(conversationId, afterUserId, limit);
  }

  async index(userId: string): Promise<IndexRow[]> {
    return this.#open().index(userId);
  }

  async heads(userId: string): Promise<number[]> {
    return this.#open().heads(userId);
  }

  async memberOf(userId: string): Promise<string[]> {
    return this.#open().memberOf(userId);
  }

  async lastSeen(userIds: readonly string[]): Promise<bigint[]> {
    return this.#open().lastSeen(userIds);
  }

  async media(conversationId: string, mediaId: string): Promise<MediaHeader | undefined> {
    return this.#open().media(conversationId, mediaId);
  }

  problems(): string[] {
    if (this.#closing.signal.aborted) return ["the store is closed"];
    const { problem } = this.#connection;
    return problem === undefined ? [] : [problem];
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    await Promise.allSettled(this.#underWay);
    await this.#connection.close();
  }

  #open(): Reads {
    if (this.#closing.signal.aborted) throw unavailable("the store is closed");
    return this.#reads;
  }
}

/** What can be told without reading. */
function check({ writes }: AppendRequest): void {
  const seen = new Set<string>();
  for (const write of writes) {
    const { conversationId } = write;
    const wrong = malformed(write);
    if (wrong !== undefined) throw invalid(wrong);
    if (seen.has(conversationId))
      throw invalid(`the batch names ${conversationId} twice: make it one write`);
    seen.add(conversationId);
    const refused = chainRefusal(write);
    if (refused !== undefined) throw conflictError(conversationId, refused);
  }
}
