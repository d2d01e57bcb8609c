/** What is in which row: writes as statements, rows as what they mean. Pure. */
import { directUsers } from "../../mesh/ids.ts";
import type {
  Cell,
  ConversationState,
  ConversationWrite,
  LeastCursor,
  Member,
} from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { readCell, Reader, readState, writeCell, Writer, writeState } from "../codec.ts";
import type { Query } from "./connection.ts";
import type { Row } from "./nodes.ts";

/** Records in one partition of a log. */
export const bucketRecords = 4_096;
/** Groups above this have no index rows that follow their head. */
export const smallGroupMax = 256;

export const bucketOf = (seq: number): number => Math.floor(seq / bucketRecords);

/** The statements, with the keyspace's name before the tables. */
export interface Statements {
  readonly cell: string;
  readonly index: string;
  readonly member: string;
  readonly groupHead: string;
}

export const statementsOf = (keyspace: string): Statements => ({
  cell: `INSERT INTO ${keyspace}.log (conversation_id, bucket, seq, cell) VALUES (?, ?, ?, ?) USING TIMESTAMP ?`,
  index: `UPDATE ${keyspace}.user_index USING TIMESTAMP ? SET head = ?, membership = ?, delivered = ?, read = ?, peer_delivered = ?, peer_read = ? WHERE user_id = ? AND conversation_id = ?`,
  member: `UPDATE ${keyspace}.groups USING TIMESTAMP ? SET membership = ?, delivered = ?, read = ? WHERE conversation_id = ? AND user_id = ?`,
  groupHead: `UPDATE ${keyspace}.groups USING TIMESTAMP ? SET head = ? WHERE conversation_id = ?`,
});

/** The columns of an index row that a write sets; what is undefined stays as it is. */
interface IndexColumns {
  head?: Uint8Array;
  membership?: bigint;
  delivered?: bigint;
  read?: bigint;
  peerDelivered?: bigint;
  peerRead?: bigint;
}

export function cellQueries(
  { cell }: Statements,
  { conversationId, cells }: ConversationWrite,
): Query[] {
  const writer = new Writer(256 * Math.max(1, cells.length));
  return cells.map((one) => {
    const from = writer.length;
    writeCell(writer, one);
    return {
      query: cell,
      params: [conversationId, bucketOf(one.seq), BigInt(one.seq), writer.slice(from), one.epoch],
      partition: `${conversationId} ${bucketOf(one.seq)}`,
    };
  });
}

/** Whether a write's state is to be written: see RaisedHeads. */
type Raise = boolean;

/**
 * What brings the index up to a write, in two steps: `before` in any order, then `last` the heads by which everybody reads a group, so that
 * nothing that such a head covers is missing where the writer dies in between. Of a direct conversation there are none: each user reads by
 * the own row, and who takes over by the lower of the two.
 */
export function indexQueries(
  statements: Statements,
  write: ConversationWrite,
  raise: Raise,
): { before: Query[]; last: Query[] } {
  const users = directUsers(write.conversationId);
  if (users === undefined) return groupQueries(statements, write, raise);
  return { before: directQueries(statements, write, users, raise), last: [] };
}

function directQueries(
  statements: Statements,
  { conversationId, state, members }: ConversationWrite,
  users: readonly [string, string],
  raise: Raise,
): Query[] {
  const queries: Query[] = [];
  const head = state === undefined || !raise ? undefined : stateBytes(state);
  for (const userId of users) {
    const row = new TimedRow();
    if (head !== undefined && state !== undefined) row.set(state.headSeq, { head });
    for (const member of members) {
      const { deliveredSeq, readSeq } = member;
      const own = member.userId === userId;
      if (!own && !users.includes(member.userId)) continue;
      if (deliveredSeq > 0) {
        const delivered = BigInt(deliveredSeq);
        row.set(deliveredSeq, own ? { delivered } : { peerDelivered: delivered });
      }
      if (readSeq > 0) {
        const read = packed(readSeq, member.readOrdinal);
        row.set(readSeq, own ? { read } : { peerRead: read });
      }
    }
    queries.push(...row.queries(statements, userId, conversationId));
  }
  return queries;
}

/** Columns by their timestamp: each timestamp is one statement. */
class TimedRow {
  readonly #columns = new Map<number, IndexColumns>();

  set(timestamp: number, columns: IndexColumns): void {
    this.#columns.set(timestamp, { ...this.#columns.get(timestamp), ...columns });
  }

  queries({ index }: Statements, userId: string, conversationId: string): Query[] {
    return Array.from(this.#columns, ([timestamp, columns]) => {
      const { head, membership, delivered, read, peerDelivered, peerRead } = columns;
      const values = [head, membership, delivered, read, peerDelivered, peerRead];
      return {
        query: index,
        params: [BigInt(timestamp), ...values, userId, conversationId],
        partition: userId,
      };
    });
  }
}

function groupQueries(
  statements: Statements,
  write: ConversationWrite,
  raise: Raise,
): { before: Query[]; last: Query[] } {
  const { conversationId, state, indexUserIds, members } = write;
  const before: Query[] = [];
  const rows = new Map<string, TimedRow>();
  const rowOf = (userId: string): TimedRow => {
    const row = rows.get(userId) ?? new TimedRow();
    rows.set(userId, row);
    if (state !== undefined && head !== undefined) row.set(state.headSeq, { head });
    return row;
  };
  // What a group is called is read where the group is.
  const head = state === undefined || !raise ? undefined : stateBytes({ ...state, title: "" });
  if (head !== undefined) for (const userId of indexUserIds) rowOf(userId);
  const sinceSeq = changesSince(write, raise);
  for (const member of members) {
    const changed = Math.max(member.floorSeq, member.leftSeq) >= sinceSeq;
    if (changed) {
      const membership = packed(member.floorSeq, member.leftSeq);
      rowOf(member.userId).set(membershipTime(member), { membership });
    }
    before.push(...memberQueries(statements, conversationId, member, changed));
  }
  for (const [userId, row] of rows) before.push(...row.queries(statements, userId, conversationId));
  if (state === undefined || head === undefined) return { before, last: [] };
  const params = [BigInt(state.headSeq), stateBytes(state), conversationId];
  return { before, last: [{ query: statements.groupHead, params, partition: conversationId }] };
}

/** Memberships change by the records of a write; where it has none, only where it raises the head over records that it does not show. */
function changesSince({ cells, state }: ConversationWrite, raise: Raise): number {
  return cells[0]?.seq ?? (raise || state === undefined ? 0 : Infinity);
}

function memberQueries(
  { member: query }: Statements,
  conversationId: string,
  { userId, floorSeq, leftSeq, deliveredSeq, readSeq, readOrdinal }: Member,
  changed: boolean,
): Query[] {
  const queries: Query[] = [];
  const add = (timestamp: number, values: (bigint | undefined)[]): void => {
    const params = [BigInt(timestamp), ...values, conversationId, userId];
    queries.push({ query, params, partition: conversationId });
  };
  if (changed)
    add(membershipTime({ floorSeq, leftSeq }), [packed(floorSeq, leftSeq), undefined, undefined]);
  const delivered = deliveredSeq > 0 ? BigInt(deliveredSeq) : undefined;
  const read = readSeq > 0 ? packed(readSeq, readOrdinal) : undefined;
  if (delivered !== undefined && deliveredSeq === readSeq) {
    add(deliveredSeq, [undefined, delivered, read]);
    return queries;
  }
  if (delivered !== undefined) add(deliveredSeq, [undefined, delivered, undefined]);
  if (read !== undefined) add(readSeq, [undefined, undefined, read]);
  return queries;
}

/** Of two membership changes the later in the log wins; at one record, having left. */
const membershipTime = ({ floorSeq, leftSeq }: Pick<Member, "floorSeq" | "leftSeq">): number =>
  2 * Math.max(floorSeq, leftSeq, 1) + (leftSeq >= floorSeq && leftSeq > 0 ? 1 : 0);

const packed = (high: number, low: number): bigint => (BigInt(high) << 32n) | BigInt(low);
const highOf = (value: bigint): number => Number(value >> 32n);
const lowOf = (value: bigint): number => Number(value & 0xffff_ffffn);

/** The driver takes Buffers for bytes. */
export const blob = ({ buffer, byteOffset, length }: Uint8Array): Buffer =>
  Buffer.from(buffer, byteOffset, length);

/** Least cursors are found by reading, not kept. */
function stateBytes(state: ConversationState): Uint8Array {
  const writer = new Writer(64 + 3 * state.title.length);
  writeState(writer, { ...state, ...noLeasts });
  return writer.bytes;
}

export function stateOf(row: Row | undefined): ConversationState | undefined {
  const head: unknown = row?.["head"];
  return head instanceof Uint8Array ? readState(new Reader(head)) : undefined;
}

export function cellOf(row: Row): Cell {
  const cell: unknown = row["cell"];
  if (!(cell instanceof Uint8Array)) throw new Error("a record's row has no record");
  return readCell(new Reader(cell));
}

const numberIn = (row: Row, column: string): bigint => {
  const value: unknown = row[column];
  return typeof value === "bigint" ? value : 0n;
};

/** A member of a group; undefined where the group's partition has none, only a head. */
export function memberOfRow(row: Row): Member | undefined {
  if (typeof row["user_id"] !== "string") return undefined;
  const membership = numberIn(row, "membership");
  const read = numberIn(row, "read");
  return member(
    row["user_id"],
    highOf(membership),
    lowOf(membership),
    Number(numberIn(row, "delivered")),
    read,
  );
}

/** Where the index's user left a group; 0: is a member. */
export const leftOf = (row: Row): number => lowOf(numberIn(row, "membership"));

/** Both members of a direct conversation, as one's row has them: the own one first. Nobody leaves it. */
export function directMembers(
  row: Row,
  userId: string,
  users: readonly [string, string],
): [Member, Member] {
  const other = users[0] === userId ? users[1] : users[0];
  const delivered = Number(numberIn(row, "delivered"));
  const peerDelivered = Number(numberIn(row, "peer_delivered"));
  return [
    member(userId, 1, 0, delivered, numberIn(row, "read")),
    member(other, 1, 0, peerDelivered, numberIn(row, "peer_read")),
  ];
}

function member(
  userId: string,
  floorSeq: number,
  leftSeq: number,
  deliveredSeq: number,
  read: bigint,
): Member {
  const [readSeq, readOrdinal] = [highOf(read), lowOf(read)];
  const $typeName = "parley.storage.v1.Member";
  return { $typeName, userId, floorSeq, leftSeq, deliveredSeq, readSeq, readOrdinal };
}

/** Of two rows' words on one user's cursors the lower: an owner may have died between them, and the device says again what it was not answered. */
export function lower(one: Member, other: Member): Member {
  const { readSeq, readOrdinal } = one.readSeq <= other.readSeq ? one : other;
  const deliveredSeq = Math.min(one.deliveredSeq, other.deliveredSeq);
  return { ...one, deliveredSeq, readSeq, readOrdinal };
}

/** The state with the least cursors of its present members; of large groups they are not told. */
export function withLeast(state: ConversationState, members: readonly Member[]): ConversationState {
  const present = members.filter(({ leftSeq }) => leftSeq === 0);
  if (state.memberCount > smallGroupMax || present.length === 0)
    return { ...state, leastDelivered: noLeast, leastRead: noLeast };
  const leastDelivered = least(present, "deliveredSeq", state.headSeq);
  return { ...state, leastDelivered, leastRead: least(present, "readSeq", state.headSeq) };
}

function least(
  members: readonly Member[],
  cursor: "deliveredSeq" | "readSeq",
  headSeq: number,
): LeastCursor {
  const [first, second] = members.toSorted((one, other) => one[cursor] - other[cursor]);
  const $typeName = "parley.storage.v1.LeastCursor";
  return {
    $typeName,
    userId: first?.userId ?? "",
    seq: first?.[cursor] ?? 0,
    secondSeq: second?.[cursor] ?? headSeq,
  };
}

const noLeast: LeastCursor = {
  $typeName: "parley.storage.v1.LeastCursor",
  userId: "",
  seq: 0,
  secondSeq: 0,
};
const noLeasts = { leastDelivered: undefined, leastRead: undefined };
