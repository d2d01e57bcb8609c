/** How conversations and sends are written to a store. The sync token's are kept with what it covers. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { SendRequestSchema, type SendRequest } from "../proto/gen/parley/v1/chat_pb.ts";
import { ConversationSchema } from "../proto/gen/parley/v1/record_pb.ts";
import type { CursorPlan } from "./cursors.ts";
import { toBase64Url } from "./surroundings.ts";
import { newTimeline, type Timeline } from "./timeline.ts";

export const deviceKey = "device";
export const userKey = "user";
export const syncKey = "sync";
export const storeIdKey = "store-id";
export const transportKey = "transport";
const conversationPrefix = "conversation/";
const sendPrefix = "send/";
const headerNumbers = 7;

export const conversationKey = (id: string): string => conversationPrefix + id;
export const sendKey = (order: number): string => sendPrefix + String(order).padStart(16, "0");

export function encodeText(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function decodeText(bytes: Uint8Array | undefined): string {
  return bytes === undefined ? "" : new TextDecoder().decode(bytes);
}

/** Seven numbers, then the summary as the message that it is. */
export function encodeTimeline(timeline: Timeline, plan: CursorPlan): Uint8Array {
  const summary = toBinary(ConversationSchema, timeline.summary);
  const bytes = new Uint8Array(headerNumbers * 4 + summary.length);
  const view = new DataView(bytes.buffer);
  const numbers = [
    timeline.next,
    timeline.knownHead,
    timeline.left ? 1 : 0,
    plan.deliveredSeq,
    plan.readSeq,
    plan.toldDeliveredSeq,
    plan.toldReadSeq,
  ];
  for (const [place, number] of numbers.entries()) view.setUint32(place * 4, number);
  bytes.set(summary, headerNumbers * 4);
  return bytes;
}

function decodeTimeline(id: string, bytes: Uint8Array): { timeline: Timeline; plan: CursorPlan } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const number = (place: number): number => view.getUint32(place * 4);
  const timeline = newTimeline(id);
  timeline.summary = fromBinary(ConversationSchema, bytes.subarray(headerNumbers * 4));
  timeline.next = number(0);
  timeline.keptFrom = number(0);
  timeline.knownHead = number(1);
  timeline.toldTo = timeline.summary.headSeq;
  timeline.left = number(2) === 1;
  const plan: CursorPlan = {
    deliveredSeq: number(3),
    readSeq: number(4),
    toldDeliveredSeq: number(5),
    toldReadSeq: number(6),
  };
  return { timeline, plan };
}

export interface Kept {
  deviceId: string;
  userId: string;
  /** The one that was live last; "": none was. */
  transport: string;
  syncToken: Uint8Array<ArrayBuffer>;
  /** Whose the token and the conversations are; "": the server did not tell. */
  storeId: string;
  conversations: { timeline: Timeline; plan: CursorPlan }[];
  sends: { clientId: string; order: number; request: SendRequest }[];
}

/** Throws where the store holds what no client wrote. */
export function decodeKept(items: ReadonlyMap<string, Uint8Array>): Kept {
  const kept: Kept = {
    deviceId: decodeText(items.get(deviceKey)),
    userId: decodeText(items.get(userKey)),
    transport: decodeText(items.get(transportKey)),
    syncToken: new Uint8Array(items.get(syncKey) ?? []),
    storeId: decodeText(items.get(storeIdKey)),
    conversations: [],
    sends: [],
  };
  for (const [key, bytes] of items) {
    if (key.startsWith(conversationPrefix)) {
      kept.conversations.push(decodeTimeline(key.slice(conversationPrefix.length), bytes));
    } else if (key.startsWith(sendPrefix)) {
      const request = fromBinary(SendRequestSchema, bytes);
      const order = Number(key.slice(sendPrefix.length));
      kept.sends.push({ clientId: toBase64Url(request.clientId), order, request });
    }
  }
  kept.sends.sort((one, other) => one.order - other.order);
  return kept;
}
