/** Why a message was delivered, or was not: gathers what every service knows of it, asks `fate.ts` what follows for each member. */
import { fromBinary } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { invalid } from "../mesh/errors.ts";
import { DeliveryService } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import {
  type Connection,
  type ExplainMessageRequest,
  type ExplainMessageResponse,
  GatewayService,
  type MemberView,
  MessageState,
  type OwnerView,
  type Shard,
  type UserSession,
} from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { PresenceService } from "../proto/gen/parley/presence/v1/presence_pb.ts";
import { SessionService } from "../proto/gen/parley/session/v1/session_pb.ts";
import type { Cell, Member, StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import {
  type Presence,
  type Record as ChatRecord,
  RecordSchema,
} from "../proto/gen/parley/v1/record_pb.ts";
import { type Asking, answerMs } from "./asking.ts";
import { fateOf } from "./fate.ts";
import { noSuchConversation, withoutContent } from "./log.ts";
import { sessionsOf } from "./reached.ts";

const limitUsual = 20;
const limitMost = 100;
/** A log may be long, and a message that is looked for by its name anywhere in it. */
const searchMs = 15_000;

type Storage = Client<typeof StorageService>;

export async function explain(
  asking: Asking,
  storage: Storage,
  shard: Shard,
  request: ExplainMessageRequest,
): Promise<ExplainMessageResponse> {
  const { conversationId, userId, limit } = request;
  if (limit > limitMost) throw invalid(`limit is more than ${limitMost}`);
  const [kept, owner] = await Promise.all([
    keptOf(storage, conversationId),
    ownerOf(asking, shard, conversationId),
  ]);
  const seq = await seqOf(storage, request);
  const record = seq === 0 ? undefined : await recordOf(storage, kept, conversationId, seq);
  const state = stateOf(record, seq, kept.headSeq);
  const asked = userId === "" ? kept.members : kept.members.filter((one) => one.userId === userId);
  const some = asked
    .toSorted((left, right) => gotRank(left, seq) - gotRank(right, seq))
    .slice(0, limit === 0 ? limitUsual : limit);
  const members =
    state === MessageState.ABSENT
      ? []
      : await membersOf(asking, conversationId, some, seq, state === MessageState.SENT);
  return {
    $typeName: "parley.gateway.v1.ExplainMessageResponse",
    state,
    summary: summaryOf(state, seq, kept, shard, owner),
    ...(record === undefined ? {} : { record: withoutContent(record) }),
    headSeq: kept.headSeq,
    memberCount: kept.memberCount,
    shard,
    ...(owner === undefined ? {} : { owner }),
    members,
    membersLeftOut: state === MessageState.ABSENT ? 0 : kept.members.length - members.length,
    unanswered: asking.unanswered,
  };
}

/** What storage has. */
interface Kept {
  headSeq: number;
  memberCount: number;
  members: Member[];
  /** Above the head. */
  tail: Cell[];
}

async function keptOf(storage: Storage, conversationId: string): Promise<Kept> {
  const kept: Kept = { headSeq: 0, memberCount: 0, members: [], tail: [] };
  for await (const part of storage.open({ conversationId }, { timeoutMs: searchMs })) {
    if (part.state !== undefined) {
      kept.headSeq = part.state.headSeq;
      kept.memberCount = part.state.memberCount;
    }
    kept.members.push(...part.members);
    kept.tail.push(...part.tail);
  }
  if (kept.headSeq === 0 && kept.tail.length === 0) throw noSuchConversation(conversationId);
  return kept;
}

/** 0: nowhere. */
async function seqOf(
  storage: Storage,
  { conversationId, message }: ExplainMessageRequest,
): Promise<number> {
  switch (message.case) {
    case "seq":
      if (message.value === 0) throw invalid("seq is 0: messages are numbered from 1");
      return message.value;
    case "send": {
      const { senderId, clientId } = message.value;
      const asked = { conversationId, senderId, clientId, afterSeq: 0 };
      return (await storage.findSend(asked, { timeoutMs: searchMs })).seq;
    }
    case undefined:
      throw invalid("set seq or send: which message?");
  }
}

async function recordOf(
  storage: Storage,
  { headSeq, tail }: Kept,
  conversationId: string,
  seq: number,
): Promise<ChatRecord | undefined> {
  if (seq > headSeq) {
    const cell = tail.find((one) => one.seq === seq);
    return cell && fromBinary(RecordSchema, cell.record);
  }
  // Both sides of it, as an open one reaches to the end of the log.
  const page = { conversationId, afterSeq: seq - 1, beforeSeq: seq + 1, limit: 1 };
  const { pages } = await storage.read({ pages: [page] }, { timeoutMs: answerMs });
  const bytes = pages[0]?.records[0];
  return bytes && fromBinary(RecordSchema, bytes);
}

function stateOf(record: ChatRecord | undefined, seq: number, headSeq: number): MessageState {
  if (record === undefined) return MessageState.ABSENT;
  return seq <= headSeq ? MessageState.SENT : MessageState.WRITTEN;
}

/** Those first that should have it and have not. */
function gotRank({ leftSeq, floorSeq, deliveredSeq, readSeq }: Member, seq: number): number {
  if ((leftSeq > 0 && leftSeq < seq) || floorSeq > seq) return 3;
  if (readSeq >= seq) return 2;
  return deliveredSeq >= seq ? 1 : 0;
}

async function ownerOf(
  asking: Asking,
  { ownerId }: Shard,
  conversationId: string,
): Promise<OwnerView | undefined> {
  const peer = asking.peers(DeliveryService).find(({ id }) => id === ownerId);
  if (peer === undefined) {
    const whose = ownerId === "" ? "the shard has no owner yet" : `its owner ${ownerId} is gone`;
    asking.nobody(DeliveryService, whose);
    return undefined;
  }
  const answer = await asking.of(DeliveryService, peer, (delivery, options) =>
    delivery.inspectConversation({ conversationId }, options),
  );
  if (answer === undefined) return undefined;
  const { taking, loaded, headSeq, committedSeq, waiting } = answer;
  const $typeName = "parley.gateway.v1.OwnerView";
  return { $typeName, taking, loaded, headSeq, committedSeq, waiting };
}

function summaryOf(
  state: MessageState,
  seq: number,
  { headSeq }: Kept,
  { shard, ownerPresent }: Shard,
  owner: OwnerView | undefined,
): string {
  const serves = ownerPresent && owner?.taking === true;
  const stuck = serves ? "" : `; nobody takes messages for shard ${shard} at the moment`;
  switch (state) {
    case MessageState.SENT:
      return `#${seq} is sent: every device that syncs finds it`;
    case MessageState.WRITTEN:
      return `#${seq} is written and above the head (#${headSeq}): nobody may see it yet, and its sender was not told that it is sent${stuck}`;
    default:
      return seq === 0
        ? `no such send is in the log, whose head is #${headSeq}: its sender was not told that it is sent${stuck}`
        : `#${seq} is not in the log, whose head is #${headSeq}${stuck}`;
  }
}

/** Where a user is reachable: what whoever publishes to the user is told, and what the gateways hold. */
interface Reach {
  readonly presences: ReadonlyMap<string, Presence>;
  readonly sessions: ReadonlyMap<string, readonly UserSession[]>;
  readonly connections: readonly Connection[];
}

async function membersOf(
  asking: Asking,
  conversationId: string,
  members: readonly Member[],
  seq: number,
  sent: boolean,
): Promise<MemberView[]> {
  const userIds = members.map(({ userId }) => userId);
  if (userIds.length === 0) return [];
  const [presences, sessions, connections] = await Promise.all([
    presencesOf(asking, userIds),
    sessionsByUser(asking, userIds),
    connectionsOf(asking, conversationId, userIds),
  ]);
  const reach: Reach = { presences, sessions, connections };
  const partial = asking.lacks(SessionService) || asking.lacks(GatewayService);
  return members.map((member) => memberView(member, seq, sent, reach, partial));
}

function memberView(
  member: Member,
  seq: number,
  sent: boolean,
  reach: Reach,
  partial: boolean,
): MemberView {
  const { userId, floorSeq, leftSeq, deliveredSeq, readSeq } = member;
  const presence = reach.presences.get(userId);
  const sessions = [...(reach.sessions.get(userId) ?? [])];
  const connections = reach.connections.filter((one) => one.userId === userId);
  const $typeName = "parley.gateway.v1.MemberView";
  return {
    $typeName,
    userId,
    ...fateOf({ seq, sent, member, presence, sessions, connections, partial }),
    floorSeq,
    leftSeq,
    deliveredSeq,
    readSeq,
    ...(presence === undefined ? {} : { presence }),
    sessions,
    connections,
  };
}

async function presencesOf(asking: Asking, userIds: string[]): Promise<Map<string, Presence>> {
  const byUser = new Map<string, Presence>();
  await Promise.all(
    userIds.map(async (userId) => {
      const peer = asking.placeOf(PresenceService, userId);
      const answer =
        peer &&
        (await asking.of(PresenceService, peer, (presence, options) =>
          presence.getPresences({ userIds: [userId] }, options),
        ));
      const presence = answer?.presences[0];
      if (presence !== undefined) byUser.set(userId, presence);
    }),
  );
  return byUser;
}

/** At the process where their pushes pass. */
async function sessionsByUser(
  asking: Asking,
  userIds: string[],
): Promise<Map<string, UserSession[]>> {
  const byUser = new Map<string, UserSession[]>();
  await Promise.all(
    userIds.map(async (userId) => {
      const peer = asking.placeOf(SessionService, userId);
      if (peer === undefined) return asking.nobody(SessionService, "there is no such process");
      const answer = await asking.of(SessionService, peer, (session, options) =>
        session.listSessions({ userId }, options),
      );
      byUser.set(userId, sessionsOf(peer.id, answer?.sessions ?? []));
    }),
  );
  return byUser;
}

async function connectionsOf(
  asking: Asking,
  conversationId: string,
  userIds: string[],
): Promise<Connection[]> {
  const answers = await asking.ofAll(GatewayService, (gateway, options) =>
    gateway.listConnections({ conversationId, userIds, limit: 1_000 }, options),
  );
  return answers.flatMap(({ answer }) => answer.connections);
}
