/** What happens in a chat, as a line for people and as a line of JSON. Pure. */
import { Availability } from "../client/index.ts";
import type {
  GapEvent,
  Presence,
  Record as LogRecord,
  StatusEvent,
  TransportName,
} from "../client/index.ts";
import { changeText, contentText } from "./chat-rows.ts";
import { messageOf } from "./chat-sdk.ts";
import { tickMarks } from "./chat-state.ts";
import { clean, cleanLine } from "./chat-text.ts";

export type ChatEvent =
  | { readonly type: "record"; readonly record: LogRecord; readonly own: boolean }
  | { readonly type: "status"; readonly status: StatusEvent }
  | { readonly type: "presence"; readonly presence: Presence }
  | { readonly type: "typing"; readonly conversationId: string; readonly userId: string }
  | {
      readonly type: "state";
      readonly state: "connecting" | "live" | "waiting" | "stopped";
      readonly transport?: TransportName;
      readonly delayMs?: number;
      readonly reason?: string;
    }
  | ({ readonly type: "gap" } & GapEvent)
  | { readonly type: "synced" };

export interface PlainView {
  readonly me: string;
  /** Events of many conversations: each says which. */
  readonly all: boolean;
  /** The message with this id was sent by this very process. */
  isOwnHere(clientId: string): boolean;
}

export interface PlainLine {
  readonly text: string;
  /** Not said again in a row under this key. */
  readonly once?: string;
}

/** Undefined: nothing that people would want to read. */
export function plainLine(event: ChatEvent, view: PlainView): PlainLine | undefined {
  switch (event.type) {
    case "record":
      return plainRecord(event.record, event.own, view);
    case "status":
      return plainStatus(event.status);
    case "presence": {
      const { userId, availability } = event.presence;
      const how = availability === Availability.ONLINE ? "online" : "offline";
      return { text: `* ${cleanLine(userId)} is ${how}`, once: `presence ${userId}` };
    }
    case "typing":
      return { text: `${place(event.conversationId, view)}* ${cleanLine(event.userId)} is typing` };
    case "state":
      return plainState(event.state, event.delayMs ?? 0, event.reason ?? "");
    case "gap": {
      const how = event.more ? "are not shown: see parley history" : "cannot be had";
      return {
        text: `${place(event.conversationId, view)}* #${event.from} to #${event.to} ${how}`,
      };
    }
    case "synced":
      return undefined;
  }
}

function plainRecord(record: LogRecord, own: boolean, view: PlainView): PlainLine | undefined {
  const where = place(record.conversationId, view);
  const change = changeText(record, "");
  if (change !== undefined) return { text: `${where}* ${change}` };
  if (record.body.case !== "message") return undefined;
  if (own && view.isOwnHere(Buffer.from(record.clientId).toString("base64url"))) return undefined;
  return {
    text: `${where}${cleanLine(record.senderId)}: ${clean(contentText(record.body.value)).replaceAll("\n", " ↵ ")}`,
  };
}

function plainStatus(event: StatusEvent): PlainLine | undefined {
  if (event.status === "pending") return undefined;
  if (event.status === "failed") return { text: `✗ failed: ${cleanLine(messageOf(event.error))}` };
  const { status, seq, conversationId } = event;
  const text = status === "read" ? `✓✓ #${seq} read` : `${tickMarks[status]} #${seq} ${status}`;
  return { text, once: `status ${conversationId} ${seq}` };
}

function plainState(state: string, delayMs: number, reason: string): PlainLine | undefined {
  switch (state) {
    case "live":
      return { text: "* connected" };
    case "waiting":
      return {
        text: `* reconnecting in ${Math.max(1, Math.ceil(delayMs / 1_000))} s: ${cleanLine(reason)}`,
      };
    default:
      return undefined;
  }
}

function place(conversationId: string, view: PlainView): string {
  return view.all ? `[${cleanLine(conversationId)}] ` : "";
}

export function jsonLine(event: ChatEvent): string {
  return JSON.stringify(plainObject(event));
}

function plainObject(event: ChatEvent): object {
  switch (event.type) {
    case "record":
      return recordObject(event.record, event.own);
    case "status": {
      const { status } = event;
      return {
        type: "status",
        ...status,
        ...("error" in status ? { error: messageOf(status.error) } : {}),
      };
    }
    case "presence": {
      const { userId, availability, lastSeenMs } = event.presence;
      return {
        type: "presence",
        userId,
        online: availability === Availability.ONLINE,
        lastSeenMs: Number(lastSeenMs),
      };
    }
    case "typing":
    case "gap":
    case "state":
    case "synced":
      return event;
  }
}

function recordObject(record: LogRecord, own: boolean): object {
  const { conversationId, seq, senderId, body } = record;
  const common = { conversationId, seq, senderId, own, timeMs: Number(record.timeMs) };
  if (body.case === "membership") {
    const { added, removed, title } = body.value;
    return {
      type: "membership",
      ...common,
      added,
      removed,
      ...(title === undefined ? {} : { title }),
    };
  }
  if (body.case === "erasure") {
    const ranges = body.value.ranges.map(({ firstSeq, lastSeq }) => [firstSeq, lastSeq]);
    return { type: "erasure", ...common, ranges };
  }
  if (record.erased && senderId === "") return { type: "erased", ...common };
  const content = body.case === "message" ? body.value : undefined;
  const attachments = (content?.attachments ?? []).map(
    ({ mediaId, mediaType, size, width, height, fileName }) => ({
      mediaId,
      mediaType,
      size,
      width,
      height,
      fileName,
    }),
  );
  return {
    type: "message",
    ...common,
    clientId: Buffer.from(record.clientId).toString("base64url"),
    text: content?.text ?? "",
    ...(attachments.length === 0 ? {} : { attachments }),
    ...(content === undefined || content.replyToSeq === 0
      ? {}
      : { replyToSeq: content.replyToSeq }),
  };
}
