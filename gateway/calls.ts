/** ChatService's operations as promises, for callers of whatever protocol. The WebSocket's hot calls have a shorter way (requests.ts). */
import { Code, ConnectError } from "@connectrpc/connect";
import { invalid, unavailable } from "../mesh/errors.ts";
import { groupId, isUserId } from "../mesh/ids.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { Operation, Outcome } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import type {
  CreateGroupRequest,
  CreateGroupResponse,
  HistoryRequest,
  HistoryResponse,
  ListMembersRequest,
  ListMembersResponse,
  MoveCursorRequest,
  MoveCursorResponse,
  SendRequest,
  SendResponse,
  SetTypingRequest,
  SetTypingResponse,
  SubscribeRequest,
  SubscribeResponse,
  SyncRequest,
  SyncResponse,
  UpdateGroupRequest,
  UpdateGroupResponse,
  WatchPresenceRequest,
  WatchPresenceResponse,
} from "../proto/gen/parley/v1/chat_pb.ts";
import type { Presence } from "../proto/gen/parley/v1/record_pb.ts";
import type { Connections } from "./connections.ts";
import { checkContent, contentBytes } from "./content.ts";
import type { Uploads } from "./content.ts";
import type { DeliveryLinks } from "./delivery-links.ts";
import { checkConversationId, destination } from "./destination.ts";
import { checkClientId, moveOperation, sendOperation, typingOperation } from "./operations.ts";
import { OwnerCalls } from "./owner-calls.ts";
import type { Caller, Calls } from "./ports.ts";
import { historyResponseOf, syncResponseOf } from "./reads.ts";
import type { Reads, SyncPage } from "./reads.ts";
import type { Following } from "./following.ts";
import type { Meter } from "./meter.ts";
import { endSent } from "./outcomes.ts";
import type { Streams } from "./subscription.ts";
import { Promised, sentAgain } from "./waiting.ts";
import type { WatchElsewhere } from "./watch-elsewhere.ts";
import type { PresenceLinks } from "./watches.ts";

const recordsMax = 50;
const waitMsMax = 60_000;
const watchedMax = 1_000;

export function checkSync({ waitMs, recordsPerConversation }: SyncRequest): void {
  if (waitMs > waitMsMax) throw invalid(`wait_ms is more than ${waitMsMax}`);
  checkRecords(recordsPerConversation);
}

function checkRecords(recordsPerConversation: number): void {
  if (recordsPerConversation <= recordsMax) return;
  throw invalid(`records_per_conversation is more than ${recordsMax}`);
}

/** One page of a sync. */
export async function firstPage(
  reads: Reads,
  userId: string,
  { token, recordsPerConversation }: Pick<SyncRequest, "token" | "recordsPerConversation">,
  signal?: AbortSignal,
): Promise<SyncPage> {
  for await (const page of reads.sync(userId, token, recordsPerConversation, signal)) return page;
  throw new ConnectError("a sync had no page", Code.Internal);
}

function unexpected(outcome: Outcome["outcome"]): ConnectError {
  return new ConnectError(`delivery answered with ${String(outcome.case)}`, Code.Internal);
}

/** What a part of the service must be there for the calls. */
export interface CallsParts {
  readonly delivery: DeliveryLinks;
  readonly presence: PresenceLinks;
  readonly connections: Connections;
  readonly reads: Reads;
  readonly uploads: Uploads;
  readonly streams: Streams;
  readonly meter: Meter;
  readonly following: Following;
  readonly watchElsewhere: WatchElsewhere;
}

export class ChatCalls implements Calls {
  readonly #parts: CallsParts;
  readonly #groups: OwnerCalls;

  constructor(surroundings: Pick<Surroundings, "clock" | "random">, parts: CallsParts) {
    this.#parts = parts;
    this.#groups = new OwnerCalls(surroundings, parts.delivery);
  }

  async send(caller: Caller, request: SendRequest): Promise<SendResponse> {
    const { to, clientId, content } = request;
    const conversationId = destination(
      caller.userId,
      to.case === "conversationId" ? to.value : "",
      to.case === "userId" ? to.value : "",
    );
    checkClientId(clientId);
    const { bytes, attachments, replyToSeq } = checkContent(content && contentBytes(content));
    const { uploads } = this.#parts;
    const kept =
      attachments > 0 ? await uploads.resolve(bytes, conversationId, caller.userId) : bytes;
    const asked = sendOperation(caller, conversationId, request, kept, replyToSeq);
    if (request.retry) this.#parts.meter.retries.add();
    // While it waited its caller may have sent it by another gateway, to an owner who is none any more.
    const outcome = await this.#timed(caller, attachments > 0 ? sentAgain(asked) : asked);
    if (outcome.case !== "sent") throw unexpected(outcome);
    const { seq, timeMs, duplicate } = outcome.value;
    return { $typeName: "parley.v1.SendResponse", conversationId, seq, timeMs, duplicate };
  }

  async #timed(caller: Caller, asked: Operation): Promise<Outcome["outcome"]> {
    const { meter, following } = this.#parts;
    const beganMs = meter.sending();
    const span = following.sending(caller, asked.conversationId);
    if (span !== undefined) asked.trace = span.context;
    try {
      const outcome = await this.#operate(asked);
      meter.sent(beganMs);
      if (span !== undefined && outcome.case === "sent") endSent(span, outcome.value);
      return outcome;
    } catch (error) {
      meter.sendFailed();
      span?.end(ConnectError.from(error).rawMessage);
      throw error;
    }
  }

  async moveCursor(caller: Caller, request: MoveCursorRequest): Promise<MoveCursorResponse> {
    const { conversationId } = request;
    const { userId } = caller;
    const outcome = await this.#operate(
      moveOperation(caller, conversationId, request.deliveredSeq, request.readSeq),
    );
    if (outcome.case !== "moved") throw unexpected(outcome);
    const { deliveredSeq, readSeq } = outcome.value;
    for (const one of this.#parts.connections.ofUser(userId))
      one.acked(conversationId, deliveredSeq);
    const $typeName = "parley.v1.Cursor";
    const cursor = { $typeName, conversationId, userId, deliveredSeq, readSeq } as const;
    return { $typeName: "parley.v1.MoveCursorResponse", cursor };
  }

  async sync(caller: Caller, request: SyncRequest, signal?: AbortSignal): Promise<SyncResponse> {
    checkSync(request);
    const { reads, streams } = this.#parts;
    const page =
      request.waitMs > 0
        ? await streams.poll(caller, request, signal)
        : await firstPage(reads, caller.userId, request, signal);
    return syncResponseOf(page);
  }

  async history(caller: Caller, request: HistoryRequest): Promise<HistoryResponse> {
    return historyResponseOf(await this.#parts.reads.history(caller.userId, request));
  }

  subscribe(
    caller: Caller,
    request: SubscribeRequest,
    signal: AbortSignal,
  ): AsyncIterable<SubscribeResponse> {
    checkRecords(request.recordsPerConversation);
    return this.#parts.streams.subscribe(caller, request, signal);
  }

  listMembers(caller: Caller, request: ListMembersRequest): Promise<ListMembersResponse> {
    return this.#parts.reads.members(caller.userId, request);
  }

  async createGroup(caller: Caller, request: CreateGroupRequest): Promise<CreateGroupResponse> {
    checkClientId(request.clientId);
    const { userId } = caller;
    // Every try has the same outcome.
    const { response } = await this.#groups.run(
      groupId(userId, request.clientId),
      (owner, timeoutMs) => owner.createGroup({ userId, request }, { timeoutMs }),
    );
    if (response === undefined) throw unavailable("delivery answered with nothing");
    return response;
  }

  async updateGroup(caller: Caller, request: UpdateGroupRequest): Promise<UpdateGroupResponse> {
    checkClientId(request.clientId);
    checkConversationId(request.conversationId);
    const { userId } = caller;
    const { response } = await this.#groups.run(
      request.conversationId,
      (owner, timeoutMs, again) => {
        const asked = { ...request, retry: request.retry || again };
        return owner.updateGroup({ userId, request: asked }, { timeoutMs });
      },
    );
    if (response === undefined) throw unavailable("delivery answered with nothing");
    return response;
  }

  async watchPresence(
    caller: Caller,
    { userIds }: WatchPresenceRequest,
  ): Promise<WatchPresenceResponse> {
    if (userIds.length > watchedMax) {
      throw invalid(`${userIds.length} user_ids: at most ${watchedMax} can be watched`);
    }
    const wrong = userIds.findIndex((userId) => !isUserId(userId));
    if (wrong !== -1) throw invalid(`user_ids[${wrong}] is no user id`);
    const presences = await this.#watch(caller, [...new Set(userIds)]);
    return { $typeName: "parley.v1.WatchPresenceResponse", presences };
  }

  /** Where the device has a connection, here or at another gateway, that one watches; else it is told how things are, and that is all. */
  async #watch(caller: Caller, userIds: string[]): Promise<Presence[]> {
    const { connections, presence, watchElsewhere } = this.#parts;
    const { userId, origin } = caller;
    const own =
      origin === ""
        ? this.#streamOf(userId, caller.deviceId)
        : connections.ofUser(userId).find(({ number }) => origin.endsWith(`/${number}`));
    if (own !== undefined) return presence.watch(own.number, userId, userIds);
    const there = origin === "" ? await watchElsewhere.watch(caller, userIds) : undefined;
    if (there !== undefined) return there;
    const number = connections.next();
    try {
      return await presence.watch(number, userId, userIds);
    } finally {
      presence.ended(number);
    }
  }

  /** For another gateway, which a device with its stream here asked. NOT_FOUND where it has none. */
  async watchByStream(userId: string, deviceId: string, userIds: string[]): Promise<Presence[]> {
    const stream = this.#streamOf(userId, deviceId);
    if (stream === undefined)
      throw new ConnectError("the device has no stream at this gateway", Code.NotFound);
    return this.#parts.presence.watch(stream.number, userId, userIds);
  }

  #streamOf(userId: string, deviceId: string): { readonly number: number } | undefined {
    return this.#parts.connections
      .ofUser(userId)
      .findLast((one) => one.kind === "subscribe" && one.deviceId === deviceId);
  }

  setTyping(caller: Caller, { conversationId }: SetTypingRequest): Promise<SetTypingResponse> {
    return Promise.resolve().then(() => {
      this.#parts.delivery.tell(typingOperation(caller, conversationId));
      return { $typeName: "parley.v1.SetTypingResponse" };
    });
  }

  #operate(operation: Operation): Promise<Outcome["outcome"]> {
    const promised = new Promised();
    this.#parts.delivery.operate(operation, promised);
    return promised.outcome;
  }
}
