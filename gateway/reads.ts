/** Reads of conversations for clients: sync pages, history, members. Records stay as storage has them until somebody needs them decoded. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { invalid, noConversation, unauthenticated } from "../mesh/errors.ts";
import { ConversationDeltaSchema } from "../proto/gen/parley/v1/chat_pb.ts";
import type {
  ConversationDelta,
  HistoryRequest,
  HistoryResponse,
  ListMembersRequest,
  ListMembersResponse,
  SyncResponse,
} from "../proto/gen/parley/v1/chat_pb.ts";
import { RecordSchema } from "../proto/gen/parley/v1/record_pb.ts";
import type { Conversation, Record } from "../proto/gen/parley/v1/record_pb.ts";
import type {
  Page,
  PageResult,
  StorageService,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { checkConversationId } from "./destination.ts";
import type { ChangedBucket, KnownRow } from "./sync.ts";
import { SyncPlan, conversationOf, knownRows } from "./sync.ts";
import { WireWriter } from "./wire.ts";

/** Every call to storage ends. */
export const readMs = 10_000;
const recordsPerConversationMax = 50;
const pageConversationsMax = 100;
const pageBytesMax = 524_288;
/** How many records one read of storage asks for at most. */
const readRecordsMax = 64;
const historyMax = 200;
const historyUsual = 50;
const membersMax = 1_000;
const membersUsual = 200;

export interface RawDelta {
  readonly conversation: Conversation;
  readonly records: readonly Uint8Array[];
  readonly left: boolean;
}

export interface SyncPage {
  readonly deltas: readonly RawDelta[];
  readonly token: Uint8Array;
  readonly complete: boolean;
  /** Empty: not known. */
  readonly storeId: string;
}

export interface RawHistory {
  readonly records: readonly Uint8Array[];
  readonly headSeq: number;
  readonly floorSeq: number;
}

const decoded = (records: readonly Uint8Array[]): Record[] =>
  records.map((record) => fromBinary(RecordSchema, record));

export function syncResponseOf({ deltas, token, complete, storeId }: SyncPage): SyncResponse {
  const conversations = deltas.map(({ conversation, records, left }): ConversationDelta => ({
    $typeName: "parley.v1.ConversationDelta",
    conversation,
    records: decoded(records),
    left,
  }));
  return { $typeName: "parley.v1.SyncResponse", conversations, token, complete, storeId };
}

/** A SyncResponse's bytes, the records spliced in as they are. */
export function encodeSyncPage({ deltas, token, complete, storeId }: SyncPage): Uint8Array {
  const writer = new WireWriter();
  if (storeId !== "") writer.bytes(4, Buffer.from(storeId));
  writer.uint(3, complete ? 1 : 0);
  if (token.length > 0) writer.bytes(2, token);
  for (const { conversation, records, left } of deltas.toReversed()) {
    const before = writer.written;
    writer.uint(3, left ? 1 : 0);
    for (const record of records.toReversed()) writer.bytes(2, record);
    const head: ConversationDelta = {
      $typeName: "parley.v1.ConversationDelta",
      conversation,
      records: [],
      left: false,
    };
    writer.raw(toBinary(ConversationDeltaSchema, head));
    writer.wrap(1, writer.written - before);
  }
  return writer.take();
}

export function historyResponseOf({ records, headSeq, floorSeq }: RawHistory): HistoryResponse {
  return {
    $typeName: "parley.v1.HistoryResponse",
    records: decoded(records),
    headSeq,
    floorSeq,
  };
}

export function encodeHistory({ records, headSeq, floorSeq }: RawHistory): Uint8Array {
  const writer = new WireWriter();
  writer.uint(3, floorSeq);
  writer.uint(2, headSeq);
  for (const record of records.toReversed()) writer.bytes(1, record);
  return writer.take();
}

const sizeOf = (records: readonly Uint8Array[]): number =>
  records.reduce((sum, record) => sum + record.length, 0);

function pageOf(
  conversationId: string,
  userId: string,
  afterSeq: number,
  beforeSeq: number,
  limit: number,
): Page {
  const $typeName = "parley.storage.v1.Page";
  return { $typeName, conversationId, userId, afterSeq, beforeSeq, limit };
}

export class Reads {
  readonly #storage: Client<typeof StorageService>;

  constructor(storage: Client<typeof StorageService>) {
    this.#storage = storage;
  }

  /** Pages with all that the device lacks; the last one is complete. */
  async *sync(
    userId: string,
    token: Uint8Array,
    recordsPerConversation: number,
    signal?: AbortSignal,
  ): AsyncGenerator<SyncPage, undefined> {
    const perConversation = Math.min(recordsPerConversation, recordsPerConversationMax);
    const options = signal ? { timeoutMs: readMs, signal } : { timeoutMs: readMs };
    const { rows, erased, storeId } = await this.#storage.listIndex({ userId }, options);
    if (erased) throw unauthenticated("the data of this user were erased: there is no way back");
    const plan = new SyncPlan(knownRows(rows), token);
    let at = 0;
    do {
      const deltas: RawDelta[] = [];
      let bytes = 0;
      for (let next = plan.changed[at]; next !== undefined; next = plan.changed[at]) {
        const full =
          deltas.length + next.rows.length > pageConversationsMax || bytes >= pageBytesMax;
        if (full && deltas.length > 0) break;
        bytes += await this.#addBucket(next, perConversation, pageBytesMax - bytes, deltas, signal);
        plan.has(next.bucket);
        at += 1;
      }
      const complete = at === plan.changed.length;
      yield {
        deltas,
        complete,
        token: complete ? plan.finalToken() : plan.partialToken(),
        storeId,
      };
    } while (at < plan.changed.length);
    return undefined;
  }

  /** Adds the conversations of a bucket, with records until `room` bytes are used. Answers how many bytes came. */
  async #addBucket(
    { rows }: ChangedBucket,
    perConversation: number,
    room: number,
    deltas: RawDelta[],
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const atOnce = Math.max(1, Math.floor(readRecordsMax / Math.max(1, perConversation)));
    let bytes = 0;
    for (let at = 0; at < rows.length; at += atOnce) {
      const some = rows.slice(at, at + atOnce);
      const limit = bytes < room ? perConversation : 0;
      const records = limit > 0 ? await this.#newest(some, limit, signal) : [];
      some.forEach((row, place) => {
        const found = records[place] ?? [];
        const conversation = conversationOf(row);
        bytes += sizeOf(found) + 128;
        deltas.push({ conversation, records: found, left: row.member.leftSeq > 0 });
      });
    }
    return bytes;
  }

  async #newest(
    rows: readonly KnownRow[],
    limit: number,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array[][]> {
    const pages = rows.map((row) => {
      const { headSeq } = conversationOf(row);
      return pageOf(row.conversationId, row.member.userId, 0, headSeq + 1, limit);
    });
    const options = signal ? { timeoutMs: readMs, signal } : { timeoutMs: readMs };
    const response = await this.#storage.read({ pages }, options);
    return response.pages.map(({ records }) => records);
  }

  async history(userId: string, request: HistoryRequest): Promise<RawHistory> {
    const { conversationId, beforeSeq, afterSeq } = request;
    checkConversationId(conversationId);
    if (request.limit > historyMax) throw invalid(`limit is more than ${historyMax}`);
    const limit = request.limit === 0 ? historyUsual : request.limit;
    const step = (after: number, before: number, left: number): Promise<PageResult> =>
      this.#page(pageOf(conversationId, userId, after, before, Math.min(left, readRecordsMax)));
    const first = await step(afterSeq, beforeSeq, limit);
    const { headSeq, floorSeq } = first;
    const begin = Math.max(afterSeq + 1, floorSeq);
    const end = beforeSeq > 0 ? Math.min(beforeSeq, headSeq + 1) : headSeq + 1;
    const records = [...first.records];
    let found = first.records.length;
    for (let bytes = sizeOf(records); found > 0 && bytes < pageBytesMax;) {
      const left = limit - records.length;
      if (left === 0) break;
      const upwards = afterSeq > 0;
      const page = upwards
        ? await step(begin - 1 + records.length, beforeSeq, left)
        : await step(0, end - records.length, left);
      if (upwards) records.push(...page.records);
      else records.unshift(...page.records);
      found = page.records.length;
      bytes += sizeOf(page.records);
    }
    return { records, headSeq, floorSeq };
  }

  async #page(page: Page): Promise<PageResult> {
    const { pages } = await this.#storage.read({ pages: [page] }, { timeoutMs: readMs });
    const [result] = pages;
    if (result === undefined || !result.found) throw noConversation(page.conversationId);
    return result;
  }

  async members(userId: string, request: ListMembersRequest): Promise<ListMembersResponse> {
    const { conversationId, pageToken } = request;
    checkConversationId(conversationId);
    if (request.limit > membersMax) throw invalid(`limit is more than ${membersMax}`);
    const limit = request.limit === 0 ? membersUsual : request.limit;
    const { members, more } = await this.#storage.listMembers(
      { conversationId, userId, afterUserId: pageToken, limit },
      { timeoutMs: readMs },
    );
    const last = members.at(-1);
    return {
      $typeName: "parley.v1.ListMembersResponse",
      nextPageToken: more && last !== undefined ? last.userId : "",
      members: members.map(({ userId: memberId, deliveredSeq, readSeq }) => ({
        $typeName: "parley.v1.Cursor",
        conversationId,
        userId: memberId,
        deliveredSeq,
        readSeq,
      })),
    };
  }
}
