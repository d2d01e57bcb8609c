/** The SDK's records as what is drawn. */
import {
  type Content,
  type Presence,
  type Record as LogRecord,
  Availability,
} from "../../index.ts";
import { toBase64Url } from "../../surroundings.ts";
import type { Entry, MessageBody, PresenceView } from "./session.ts";

export function entryOf(record: LogRecord): Entry {
  return {
    conversationId: record.conversationId,
    seq: record.seq,
    senderId: record.senderId,
    clientId: toBase64Url(record.clientId),
    timeMs: Number(record.timeMs),
    body: bodyOf(record),
  };
}

export function messageBodyOf(content: Content): MessageBody {
  return {
    t: "message",
    text: content.text,
    attachments: content.attachments,
    replyToSeq: content.replyToSeq,
  };
}

export function presenceOf(presence: Presence): PresenceView {
  return {
    userId: presence.userId,
    online: presence.availability === Availability.ONLINE,
    lastSeenMs: Number(presence.lastSeenMs),
  };
}

function bodyOf(record: LogRecord): Entry["body"] {
  const { body } = record;
  if (body.case === "erasure")
    return {
      t: "erasure",
      ranges: body.value.ranges.map(({ firstSeq, lastSeq }) => ({ from: firstSeq, to: lastSeq })),
    };
  if (record.erased && record.senderId === "") return { t: "erased" };
  if (body.case === "message") return messageBodyOf(body.value);
  if (body.case === "membership") {
    const { added, removed, title } = body.value;
    return { t: "members", added, removed, title };
  }
  // A kind of record that is newer than this page: its place is kept.
  return { t: "members", added: [], removed: [], title: undefined };
}
