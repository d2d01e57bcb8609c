/** What the gateway's parts expect of one another and of whoever proves who a caller is. No part may know how another does its duty. */
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

/** Who a token is for. */
export interface Identity {
  readonly userId: string;
  /** When the token ends, in milliseconds since 1970-01-01 UTC; Infinity: never. */
  readonly expiresMs: number;
  /** The region that the user belongs to; "": any. */
  readonly region: string;
}

export interface Authenticator {
  /** Throws a ConnectError UNAUTHENTICATED that says what is wrong with the token. */
  verify(token: string): Promise<Identity>;
}

/** Who calls: an authenticated user on a device. */
export interface Caller {
  readonly userId: string;
  readonly deviceId: string;
  /** "gatewayId/connection" where the call comes over a connection, else "". */
  readonly origin: string;
  /** The region that the user belongs to; absent: any, or it makes no difference to the call. */
  readonly region?: string;
}

/**
 * ChatService's operations for an authenticated caller. Every field of a request is checked behind it; what is wrong is thrown as a
 * ConnectError. A call ends when its signal aborts, else by a deadline of its own.
 */
export interface Calls {
  send(caller: Caller, request: SendRequest): Promise<SendResponse>;
  moveCursor(caller: Caller, request: MoveCursorRequest): Promise<MoveCursorResponse>;
  sync(caller: Caller, request: SyncRequest, signal?: AbortSignal): Promise<SyncResponse>;
  history(caller: Caller, request: HistoryRequest): Promise<HistoryResponse>;
  /** Ends, after a `goodbye` where there is one to say, when the device is too slow, the gateway drains or the signal aborts. */
  subscribe(
    caller: Caller,
    request: SubscribeRequest,
    signal: AbortSignal,
  ): AsyncIterable<SubscribeResponse>;
  listMembers(caller: Caller, request: ListMembersRequest): Promise<ListMembersResponse>;
  createGroup(caller: Caller, request: CreateGroupRequest): Promise<CreateGroupResponse>;
  updateGroup(caller: Caller, request: UpdateGroupRequest): Promise<UpdateGroupResponse>;
  watchPresence(caller: Caller, request: WatchPresenceRequest): Promise<WatchPresenceResponse>;
  setTyping(caller: Caller, request: SetTypingRequest): Promise<SetTypingResponse>;
}
