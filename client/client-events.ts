/** What a client tells the app without being asked. */
import type { ConnectError } from "@connectrpc/connect";
import type { Presence, Record as LogRecord } from "../proto/gen/parley/v1/record_pb.ts";
import type { Connection } from "./connection.ts";
import type { Receipt } from "./receipts.ts";

/** A conversation as the app shows it. */
export interface ConversationView {
  readonly id: string;
  readonly kind: "direct" | "group";
  /** A group's title; empty for a direct conversation. */
  readonly title: string;
  /** The other one of a direct conversation. */
  readonly peerId: string | undefined;
  readonly headSeq: number;
  /** The first seq that may be read. */
  readonly floorSeq: number;
  /** All up to here was handed to the app, or named in a gap. */
  readonly gotSeq: number;
  readonly memberCount: number;
  readonly deliveredSeq: number;
  readonly readSeq: number;
  readonly unreadCount: number;
  /** What all the others have got, and read. */
  readonly peersDeliveredSeq: number;
  readonly peersReadSeq: number;
  readonly headTimeMs: number;
  /** The caller is no longer a member. */
  readonly left: boolean;
}

export interface RecordEvent {
  readonly conversationId: string;
  readonly record: LogRecord;
  /** The caller caused it, on this device or another. */
  readonly own: boolean;
}

/** Where one of the caller's own messages is. */
export type StatusEvent =
  | { readonly status: "pending"; readonly clientId: string }
  | { readonly status: "failed"; readonly clientId: string; readonly error: ConnectError }
  | ({
      readonly clientId: string;
      readonly conversationId: string;
      readonly seq: number;
    } & Receipt);

export interface CursorEvent {
  readonly conversationId: string;
  readonly userId: string;
  readonly deliveredSeq: number;
  readonly readSeq: number;
}

export interface GapEvent {
  readonly conversationId: string;
  /** Seqs that the app is not handed, both ends included. */
  readonly from: number;
  readonly to: number;
  /** `history` has them; else they are not to be had. */
  readonly more: boolean;
}

export interface ClientEvents {
  /** A conversation's records, in order; what is left out, a gap event has named before. */
  record: RecordEvent;
  status: StatusEvent;
  /** A member's cursor moved, and was pushed. What moved while the device was away is in the conversation's view and the messages' statuses. */
  cursor: CursorEvent;
  conversation: ConversationView;
  presence: Presence;
  typing: { readonly conversationId: string; readonly userId: string };
  connection: Connection;
  /** All that happened before is known now. */
  synced: { readonly conversations: number };
  gap: GapEvent;
  /** The server was restored from a backup: all records are to be forgotten, and come anew as to a new device. */
  anew: { readonly why: string };
  /** Something may have been missed, and is being looked for. */
  resync: { readonly why: string };
  /** Something went wrong that no call reports. */
  error: { readonly during: string; readonly error: unknown };
}
