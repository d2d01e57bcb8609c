/** The handlers of StorageService: asks the store, applies the rules of history.ts, answers. No state of its own. */
import type { ServiceImpl } from "@connectrpc/connect";
import { every, type Cancel, type Clock } from "../mesh/clock.ts";
import { invalid, noConversation } from "../mesh/errors.ts";
import type { Running, Surroundings } from "../mesh/lifecycle.ts";
import type {
  FindSendRequest,
  FindSendResponse,
  GetLastSeenResponse,
  HeadSumsRequest,
  ListIndexRequest,
  ListMembersRequest,
  ListMembersResponse,
  Member,
  OpenResponse,
  Page,
  PageResult,
  PutLastSeenResponse,
  ReadRequest,
  ReadResponse,
  RevokeRequest,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import type { StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { acquaintedOf } from "./acquaintance.ts";
import { StoreMeter, appendStream } from "./append.ts";
import { erasedAmong, Erasing } from "./erasing.ts";
import { isPresent, pageRange, readable } from "./history.ts";
import { getMedia, putMedia } from "./mediaservice.ts";
import type { MediaStore, Membership, Store } from "./ports.ts";
import { sendMark } from "./record.ts";
import { Retentions } from "./retention.ts";

export interface StorageDeps {
  store: Store;
  media: MediaStore;
}

const membersAResponse = 1_000;
const listedMembersMax = 1_000;
const listedMembers = 200;
const seqMax = 0xffff_ffff;
/** Bytes of records in one answer: with more, its pages are shorter. Below what a gRPC peer takes (4 MiB). */
const readBytesMax = 3_145_728;
/** How often what is due is removed. */
const sweepMs = 3_600_000;
/** Cells looked at in one turn of the event loop when searching. */
const scannedCells = 200;
/** Rows summed in one turn of the event loop. */
const summedRows = 500;

/** The service over a store, which it closes with itself. */
export function createStorage(
  surroundings: Surroundings,
  { store, media }: StorageDeps,
): Running<typeof StorageService> {
  const { clock, log } = surroundings;
  const retentions = new Retentions(clock, log, store, media);
  let cancelSweep: Cancel = () => undefined;
  return {
    service: handlers(clock, new StoreMeter(surroundings), store, media, retentions),
    start() {
      cancelSweep = every(clock, sweepMs, () => void retentions.sweep());
      return Promise.resolve();
    },
    problems: () => store.problems(),
    close() {
      cancelSweep();
      return store.close();
    },
  };
}

function handlers(
  clock: Clock,
  meter: StoreMeter,
  store: Store,
  media: MediaStore,
  retentions: Retentions,
): ServiceImpl<typeof StorageService> {
  const erasing = new Erasing(clock, store, media);
  const turn = (): Promise<void> => new Promise((resolve) => clock.afterTurn(resolve));
  return {
    append: (requests) => appendStream(store, meter, requests),
    open: ({ conversationId }) => openConversation(store, conversationId),
    read: meter.timed("read", (request: ReadRequest) => read(store, request)),
    findSend: meter.timed("find_send", (request: FindSendRequest) =>
      findSend(store, request, turn),
    ),
    listMembers: meter.timed("list_members", (request: ListMembersRequest) =>
      listMembers(store, request),
    ),
    listIndex: meter.timed("list_index", async ({ userId }: ListIndexRequest) => {
      const rows = await store.index(userId);
      const erased = rows.length === 0 && (await erasedAmong(store, [userId])).length > 0;
      const $typeName = "parley.storage.v1.ListIndexResponse" as const;
      return { $typeName, rows, erased, storeId: store.id };
    }),
    headSums: meter.timed("head_sums", async ({ userIds }: HeadSumsRequest) => {
      const sums = await headSums(store, userIds, turn);
      return { $typeName: "parley.storage.v1.HeadSumsResponse" as const, sums };
    }),
    revoke: meter.timed("revoke", async ({ incarnation }: RevokeRequest) => {
      await store.revoke(incarnation);
      return { $typeName: "parley.storage.v1.RevokeResponse" as const };
    }),
    async filterAcquainted({ userId, otherUserIds }) {
      const userIds = await acquaintedOf(store, userId, otherUserIds, turn);
      return { $typeName: "parley.storage.v1.FilterAcquaintedResponse", userIds };
    },
    async putLastSeen({ seen }): Promise<PutLastSeenResponse> {
      await store.putLastSeen(seen);
      return { $typeName: "parley.storage.v1.PutLastSeenResponse" };
    },
    getLastSeen: ({ userIds }) => getLastSeen(store, userIds),
    putMedia: (requests) => putMedia(store, media, requests),
    getMedia: (request) => getMedia(store, media, request),
    ...erasureHandlers(store, erasing, retentions),
  };
}

type ErasureHandlers = Pick<
  ServiceImpl<typeof StorageService>,
  | "beginErasure"
  | "eraseRecords"
  | "forgetMember"
  | "finishErasure"
  | "listUploads"
  | "filterErased"
  | "setRetention"
  | "getRetention"
  | "sweepRetention"
>;

function erasureHandlers(store: Store, erasing: Erasing, retentions: Retentions): ErasureHandlers {
  return {
    async beginErasure(request) {
      const receipt = await erasing.begin(request);
      return { $typeName: "parley.storage.v1.BeginErasureResponse", receipt };
    },
    eraseRecords: (request) => erasing.records(request),
    async forgetMember(request) {
      const receipt = await erasing.forget(request);
      return { $typeName: "parley.storage.v1.ForgetMemberResponse", receipt };
    },
    async finishErasure(request) {
      const receipt = await erasing.finish(request);
      return { $typeName: "parley.storage.v1.FinishErasureResponse", receipt };
    },
    async listUploads({ userId }) {
      const uploads = await store.uploads(userId);
      return {
        $typeName: "parley.storage.v1.ListUploadsResponse",
        uploads: uploads.map(({ conversationId, mediaId }) => ({
          $typeName: "parley.storage.v1.Upload",
          conversationId,
          mediaId,
        })),
      };
    },
    async setRetention(request) {
      const retention = await retentions.set(request);
      return { $typeName: "parley.storage.v1.SetRetentionResponse", retention };
    },
    async getRetention({ conversationId }) {
      const retention = await retentions.get(conversationId);
      return { $typeName: "parley.storage.v1.GetRetentionResponse", retention };
    },
    sweepRetention: ({ conversationId }) => retentions.step(conversationId),
    filterErased: (request) => erasing.filter(request),
  };
}

async function* openConversation(
  store: Store,
  conversationId: string,
): AsyncGenerator<OpenResponse, void> {
  const opened = await store.opened(conversationId, membersAResponse);
  const { state, erased } = opened;
  const tail = await store.cells(conversationId, (state?.headSeq ?? 0) + 1, seqMax);
  const $typeName = "parley.storage.v1.OpenResponse";
  let members = [...opened.members];
  yield { $typeName, state, members, tail, erasedUserIds: [...erased] };
  for (let last = lastOf(members); last !== undefined; last = lastOf(members)) {
    members = await store.membersAfter(conversationId, last, membersAResponse);
    if (members.length > 0) yield { $typeName, members, tail: [], erasedUserIds: [] };
  }
}

/** The last user id of a full page. */
const lastOf = (members: readonly Member[]): string | undefined =>
  members.length < membersAResponse ? undefined : members.at(-1)?.userId;

async function read(store: Store, { pages: asked }: ReadRequest): Promise<ReadResponse> {
  const pages: PageResult[] = [];
  let bytesLeft = readBytesMax;
  for (const page of asked) {
    const result = await readPage(store, page, bytesLeft);
    for (const record of result.records) bytesLeft -= record.length;
    pages.push(result);
  }
  return { $typeName: "parley.storage.v1.ReadResponse", pages };
}

async function readPage(store: Store, page: Page, bytesMax: number): Promise<PageResult> {
  const $typeName = "parley.storage.v1.PageResult";
  const { conversationId, userId } = page;
  const { state, member } = await seenBy(store, conversationId, userId);
  if (state === undefined) {
    return { $typeName, found: false, records: [], headSeq: 0, floorSeq: 0 };
  }
  let seen = readable(state, member);
  let [firstSeq, lastSeq] = pageRange(page, seen);
  let cells = firstSeq > lastSeq ? [] : await store.cells(conversationId, firstSeq, lastSeq);
  if (firstSeq <= lastSeq && cells[0]?.seq !== firstSeq) {
    const floorSeq = await floorOf(store, conversationId);
    if (floorSeq > firstSeq) {
      seen = { ...seen, floorSeq: Math.max(seen.floorSeq, floorSeq) };
      [firstSeq, lastSeq] = pageRange(page, seen);
      cells = firstSeq > lastSeq ? [] : await store.cells(conversationId, firstSeq, lastSeq);
    }
  }
  const lowest = page.afterSeq > 0;
  const ordered = lowest ? cells : cells.toReversed();
  let bytesLeft = bytesMax;
  let nextSeq = lowest ? firstSeq : lastSeq;
  const records: Uint8Array[] = [];
  for (const { seq, record } of ordered) {
    bytesLeft -= record.length;
    if (seq !== nextSeq || bytesLeft < 0) break;
    records.push(record);
    nextSeq += lowest ? 1 : -1;
  }
  return { $typeName, found: true, records: lowest ? records : records.reverse(), ...seen };
}

/** What a retention has removed is found out where something is missing: nothing else has to ask. */
async function floorOf(store: Store, conversationId: string): Promise<number> {
  return (await store.retention(conversationId))?.floorSeq ?? 0;
}

/** The state, where the user may see it; without a user, as a service sees it. */
async function seenBy(
  store: Store,
  conversationId: string,
  userId: string,
): Promise<Partial<Membership>> {
  if (userId !== "") return (await store.membership(conversationId, userId)) ?? {};
  const state = await store.conversation(conversationId);
  return state === undefined ? {} : { state };
}

async function findSend(
  store: Store,
  { conversationId, senderId, clientId, afterSeq, beforeSeq }: FindSendRequest,
  turn: () => Promise<void>,
): Promise<FindSendResponse> {
  if (clientId.length === 0) throw invalid("the client_id is missing");
  const sender = Buffer.from(senderId);
  const last = beforeSeq === 0 ? seqMax : beforeSeq - 1;
  for (let from = afterSeq + 1; from <= last; from += scannedCells) {
    const to = Math.min(last, from + scannedCells - 1);
    const cells = await store.cells(conversationId, from, to);
    if (cells.length === 0) {
      const floorSeq = await floorOf(store, conversationId);
      if (floorSeq <= from) break;
      from = floorSeq - scannedCells;
      continue;
    }
    for (const { seq, record } of cells) {
      const mark = sendMark(record);
      if (Buffer.compare(mark.clientId, clientId) !== 0) continue;
      if (Buffer.compare(mark.senderId, sender) !== 0) continue;
      return { $typeName: "parley.storage.v1.FindSendResponse", seq, timeMs: BigInt(mark.timeMs) };
    }
    await turn();
  }
  return { $typeName: "parley.storage.v1.FindSendResponse", seq: 0, timeMs: 0n };
}

async function listMembers(
  store: Store,
  { conversationId, userId, afterUserId, limit: asked }: ListMembersRequest,
): Promise<ListMembersResponse> {
  const [asking] = await store.members(conversationId, [userId]);
  if (!isPresent(asking)) throw noConversation(conversationId);
  const limit = asked === 0 ? listedMembers : Math.min(asked, listedMembersMax);
  const members: Member[] = [];
  for (let after: string | undefined = afterUserId; after !== undefined;) {
    const page: Member[] = await store.membersAfter(conversationId, after, limit + 1);
    members.push(...page.filter(isPresent));
    after = members.length > limit || page.length <= limit ? undefined : page.at(-1)?.userId;
  }
  return {
    $typeName: "parley.storage.v1.ListMembersResponse",
    members: members.slice(0, limit),
    more: members.length > limit,
  };
}

async function headSums(
  store: Store,
  userIds: readonly string[],
  turn: () => Promise<void>,
): Promise<bigint[]> {
  const sums: bigint[] = [];
  let rowsSinceTurn = 0;
  for (const userId of userIds) {
    const heads = await store.heads(userId);
    sums.push(BigInt(heads.reduce((sum, headSeq) => sum + headSeq, 0)));
    rowsSinceTurn += heads.length;
    if (rowsSinceTurn < summedRows) continue;
    rowsSinceTurn = 0;
    await turn();
  }
  return sums;
}

async function getLastSeen(store: Store, userIds: string[]): Promise<GetLastSeenResponse> {
  const times = await store.lastSeen(userIds);
  return {
    $typeName: "parley.storage.v1.GetLastSeenResponse",
    seen: userIds.map((userId, index) => ({
      $typeName: "parley.storage.v1.LastSeen",
      userId,
      timeMs: times[index] ?? 0n,
    })),
  };
}
