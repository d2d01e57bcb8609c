/** The client SDK: all that apps use. */
export { ParleyClient } from "./client.ts";
export type { ClientLimits, ClientOptions } from "./options.ts";
export type {
  ClientEvents,
  ConversationView,
  CursorEvent,
  GapEvent,
  RecordEvent,
  StatusEvent,
} from "./client-events.ts";
export type { Receipt, ReceiptStatus } from "./receipts.ts";
export type { ContentInput, SendHandle, SendName, SendTarget, SentMessage } from "./sender.ts";
export { directConversation } from "./sender.ts";
export type { Closing, Connection, TransportName } from "./connection.ts";
export { MemoryStore, type ClientStore } from "./store.ts";
export type {
  ClientClock,
  ClientRandom,
  WebSocketConstructor,
  WebSocketEvent,
  WebSocketLike,
} from "./surroundings.ts";
export { withoutErased } from "./erasing.ts";
export { decodeServerBatch, encodeClientBatch } from "./frames.ts";
export { Availability, ConversationKind } from "../proto/gen/parley/v1/record_pb.ts";
export type {
  Attachment,
  Content,
  Conversation,
  Cursor,
  MembershipChange,
  Presence,
  Record,
} from "../proto/gen/parley/v1/record_pb.ts";
export type { HistoryResponse, ListMembersResponse } from "../proto/gen/parley/v1/chat_pb.ts";
