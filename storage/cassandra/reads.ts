/** What is read from Cassandra, and from which rows. It writes nothing. */
import { types } from "cassandra-driver";
import { fromBinary } from "@bufbuild/protobuf";
import { directUsers } from "../../mesh/ids.ts";
import {
  type Cell,
  type ConversationState,
  type IndexRow,
  type MediaHeader,
  MediaHeaderSchema,
  type Member,
} from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { isPresent } from "../history.ts";
import type { Membership, Opened } from "../ports.ts";
import type { Connection } from "./connection.ts";
import type { Erasures } from "./erasures.ts";
import type { Row } from "./nodes.ts";
import {
  bucketOf,
  bucketRecords,
  cellOf,
  directMembers,
  leftOf,
  lower,
  memberOfRow,
  smallGroupMax,
  stateOf,
  withLeast,
} from "./rows.ts";

/** Partitions that one answer reads at once. */
const readsAtOnce = 32;
const namedMembersMax = 200;
const seqMax = 0xffff_ffff;
const membersMax = 2 ** 31 - 1;

type Users = readonly [string, string];

export class Reads {
  readonly #connection: Connection;
  readonly #keyspace: string;
  readonly #erasures: Pick<Erasures, "get">;

  constructor(connection: Connection, keyspace: string, erasures: Pick<Erasures, "get">) {
    this.#erasures = erasures;
    this.#connection = connection;
    this.#keyspace = keyspace;
  }

  async isRevoked(incarnation: string): Promise<boolean> {
    const query = `SELECT revoked FROM ${this.#keyspace}.revoked WHERE incarnation = ?`;
    const consistency = types.consistencies.quorum;
    const { rows } = await this.#connection.read(query, [incarnation], { consistency });
    return rows.length > 0;
  }

  async conversation(conversationId: string): Promise<ConversationState | undefined> {
    const users = directUsers(conversationId);
    if (users !== undefined) return (await this.#direct(conversationId, users))?.state;
    const query = `SELECT head FROM ${this.#keyspace}.groups WHERE conversation_id = ? LIMIT 1`;
    return stateOf((await this.#connection.read(query, [conversationId])).rows[0]);
  }

  async opened(conversationId: string, limit: number): Promise<Opened> {
    const users = directUsers(conversationId);
    if (users !== undefined) {
      const found = await this.#direct(conversationId, users);
      return found ?? { state: undefined, members: [], erased: await this.#erased(users) };
    }
    const rows = await this.#memberRows(conversationId, "", limit);
    return { state: stateOf(rows[0]), members: rows.flatMap(memberIn), erased: [] };
  }

  async membership(conversationId: string, userId: string): Promise<Membership | undefined> {
    const users = directUsers(conversationId);
    if (users !== undefined && !users.includes(userId)) return undefined;
    const query =
      users === undefined
        ? `SELECT * FROM ${this.#keyspace}.groups WHERE conversation_id = ? AND user_id = ?`
        : `SELECT * FROM ${this.#keyspace}.user_index WHERE conversation_id = ? AND user_id = ?`;
    const { rows } = await this.#connection.read(query, [conversationId, userId]);
    const [row] = rows;
    const state = stateOf(row);
    if (row === undefined || state === undefined) return undefined;
    const [member] = users === undefined ? memberIn(row) : directMembers(row, userId, users);
    return member === undefined ? undefined : { state, member };
  }

  /**
   * Of the two rows the lower: an owner may have died between raising the one and the other, and whoever takes over raises both again by
   * what is above this head. Where one is erased, the other's row is all.
   */
  async #direct(
    conversationId: string,
    users: Users,
  ): Promise<{ state: ConversationState; members: Member[]; erased: string[] } | undefined> {
    const query = `SELECT * FROM ${this.#keyspace}.user_index WHERE user_id = ? AND conversation_id = ?`;
    const rows = await Promise.all(
      users.map((userId) => this.#connection.read(query, [userId, conversationId])),
    );
    const [one, other] = rows.map((found) => found.rows[0]);
    const state = stateOf(one);
    const otherState = stateOf(other);
    if (one === undefined || state === undefined)
      return other && otherState && this.#rest(other, otherState, users[1], users);
    if (other === undefined || otherState === undefined)
      return this.#rest(one, state, users[0], users);
    const [first, second] = directMembers(one, users[0], users);
    const [otherSecond, otherFirst] = directMembers(other, users[1], users);
    return {
      state: state.headSeq <= otherState.headSeq ? state : otherState,
      members: [lower(first, otherFirst), lower(second, otherSecond)],
      erased: [],
    };
  }

  /** A direct conversation by one's row alone: the other is erased, or the conversation has just begun and is not there yet. */
  async #rest(
    row: Row,
    state: ConversationState,
    userId: string,
    users: Users,
  ): Promise<{ state: ConversationState; members: Member[]; erased: string[] } | undefined> {
    const erased = await this.#erased(users.filter((other) => other !== userId));
    if (erased.length === 0) return undefined;
    return { state, members: directMembers(row, userId, users), erased };
  }

  async #erased(userIds: readonly string[]): Promise<string[]> {
    const receipts = await this.#erasures.get(userIds);
    return userIds.filter((_, at) => receipts[at] !== undefined);
  }

  async cells(conversationId: string, firstSeq: number, lastSeq: number): Promise<Cell[]> {
    const query = `SELECT cell FROM ${this.#keyspace}.log WHERE conversation_id = ? AND bucket = ? AND seq >= ? AND seq <= ?`;
    const cells: Cell[] = [];
    const lastBucket = bucketOf(Math.min(lastSeq, seqMax));
    for (let bucket = bucketOf(firstSeq); bucket <= lastBucket; bucket += 1) {
      const first = Math.max(firstSeq, bucket * bucketRecords);
      const last = Math.min(lastSeq, (bucket + 1) * bucketRecords - 1);
      const key = [conversationId, bucket, BigInt(first), BigInt(last)];
      const rows = await this.#connection.rows(query, key);
      // Behind a part of a partition that is empty there is nothing that was committed.
      if (rows.length === 0) break;
      for (const row of rows) cells.push(cellOf(row));
    }
    return cells;
  }

  async members(
    conversationId: string,
    userIds: readonly string[],
  ): Promise<(Member | undefined)[]> {
    const users = directUsers(conversationId);
    if (users !== undefined) {
      return each(userIds, async (id) => (await this.membership(conversationId, id))?.member);
    }
    const query = `SELECT * FROM ${this.#keyspace}.groups WHERE conversation_id = ? AND user_id IN ?`;
    const found = new Map<string, Member>();
    for (let at = 0; at < userIds.length; at += namedMembersMax) {
      const named = userIds.slice(at, at + namedMembersMax);
      for (const row of await this.#connection.rows(query, [conversationId, named]))
        for (const member of memberIn(row)) found.set(member.userId, member);
    }
    return userIds.map((userId) => found.get(userId));
  }

  async membersAfter(
    conversationId: string,
    afterUserId: string,
    limit: number,
  ): Promise<Member[]> {
    const users = directUsers(conversationId);
    if (users === undefined)
      return (await this.#memberRows(conversationId, afterUserId, limit)).flatMap(memberIn);
    const members = await this.members(conversationId, users);
    return members
      .flatMap((one) => one ?? [])
      .filter(({ userId }) => userId > afterUserId)
      .slice(0, limit);
  }

  /** Each has the group's head, too. */
  #memberRows(conversationId: string, afterUserId: string, limit: number): Promise<Row[]> {
    const query = `SELECT * FROM ${this.#keyspace}.groups WHERE conversation_id = ? AND user_id > ? LIMIT ?`;
    return this.#connection.rows(query, [conversationId, afterUserId, limit]);
  }

  async index(userId: string): Promise<IndexRow[]> {
    const rows = await this.#indexRows(userId);
    const index = await each(rows, (row) => this.#indexRow(row, userId));
    return index.flatMap((row) => row ?? []);
  }

  async #indexRow(row: Row, userId: string): Promise<IndexRow | undefined> {
    const conversationId = String(row["conversation_id"]);
    const $typeName = "parley.storage.v1.IndexRow";
    const state = stateOf(row);
    if (state === undefined) return undefined;
    const users = directUsers(conversationId);
    if (users !== undefined) {
      const members = directMembers(row, userId, users);
      return { $typeName, conversationId, state: withLeast(state, members), member: members[0] };
    }
    const seen =
      state.memberCount > smallGroupMax || leftOf(row) > 0
        ? await this.#alone(conversationId, userId)
        : await this.#amongAll(conversationId, userId);
    return seen === undefined ? undefined : { $typeName, conversationId, ...seen };
  }

  /** Without the others, whose cursors are not told. */
  async #alone(conversationId: string, userId: string): Promise<Membership | undefined> {
    const seen = await this.membership(conversationId, userId);
    if (seen === undefined) return undefined;
    const small = seen.state.memberCount <= smallGroupMax;
    if (small && isPresent(seen.member)) return this.#amongAll(conversationId, userId);
    return { state: withLeast(seen.state, []), member: seen.member };
  }

  async #amongAll(conversationId: string, userId: string): Promise<Membership | undefined> {
    const rows = await this.#memberRows(conversationId, "", membersMax);
    const state = stateOf(rows[0]);
    const members = rows.flatMap(memberIn);
    const member = members.find((one) => one.userId === userId);
    if (state === undefined || member === undefined) return undefined;
    return { state: withLeast(state, isPresent(member) ? members : []), member };
  }

  async heads(userId: string): Promise<number[]> {
    const heads = await each(await this.#indexRows(userId), async (row) => {
      let state = stateOf(row);
      if (state === undefined) return [];
      const left = leftOf(row);
      // The rows of large groups do not follow their heads.
      if (state.memberCount > smallGroupMax && left === 0)
        state = (await this.conversation(String(row["conversation_id"]))) ?? state;
      return [left === 0 ? state.headSeq : Math.min(left, state.headSeq)];
    });
    return heads.flat();
  }

  async memberOf(userId: string): Promise<string[]> {
    return (await this.#indexRows(userId))
      .filter((row) => stateOf(row) !== undefined && leftOf(row) === 0)
      .map((row) => String(row["conversation_id"]));
  }

  #indexRows(userId: string): Promise<Row[]> {
    const query = `SELECT * FROM ${this.#keyspace}.user_index WHERE user_id = ?`;
    return this.#connection.rows(query, [userId]);
  }

  async lastSeen(userIds: readonly string[]): Promise<bigint[]> {
    const query = `SELECT time_ms FROM ${this.#keyspace}.last_seen WHERE user_id = ?`;
    return each(userIds, async (userId) => {
      const time: unknown = (await this.#connection.read(query, [userId])).rows[0]?.["time_ms"];
      return typeof time === "bigint" ? time : 0n;
    });
  }

  async media(conversationId: string, mediaId: string): Promise<MediaHeader | undefined> {
    const query = `SELECT header FROM ${this.#keyspace}.media WHERE conversation_id = ? AND media_id = ?`;
    const { rows } = await this.#connection.read(query, [conversationId, mediaId]);
    const header: unknown = rows[0]?.["header"];
    return header instanceof Uint8Array ? fromBinary(MediaHeaderSchema, header) : undefined;
  }
}

/** A group's row is no member where only its head was written. */
function memberIn(row: Row): Member[] {
  const member = memberOfRow(row);
  return member === undefined ? [] : [member];
}

/** Asks for each, some at once; answers in their order. */
async function each<T, U>(things: readonly T[], ask: (thing: T) => Promise<U>): Promise<U[]> {
  const answers: U[] = [];
  const left = things.entries();
  const work = async (): Promise<void> => {
    for (const [at, thing] of left) answers[at] = await ask(thing);
  };
  await Promise.all(Array.from({ length: Math.min(readsAtOnce, things.length) }, work));
  return answers;
}
