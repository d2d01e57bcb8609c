/** Writes and reads the bytes of a parley.v1.Record by hand: it is encoded once in its life, for every message, and passed on as it is. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type Record as ChatRecord,
  MembershipChangeSchema,
  RecordSchema,
} from "../proto/gen/parley/v1/record_pb.ts";

/** A membership change as the log keeps it. */
export interface MembershipChange {
  readonly added: string[];
  readonly removed: string[];
  readonly title: string | undefined;
}

export type RecordKind = "message" | "membership" | "erasure";

/** What a record is made of; ids are ASCII, `body` is an encoded Content, MembershipChange or Erasure. */
export interface RecordParts {
  readonly conversationId: string;
  readonly seq: number;
  readonly senderId: string;
  readonly clientId: Uint8Array;
  readonly timeMs: number;
  readonly ordinal: number;
  readonly kind: RecordKind;
  readonly body: Uint8Array;
}

const tags = { message: 0x3a, membership: 0x42, erasure: 0x52 };

function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) length += 1;
  return length;
}

function writeVarint(out: Buffer, at: number, value: number): number {
  let rest = value;
  let to = at;
  while (rest >= 0x80) {
    out[to++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  out[to++] = rest;
  return to;
}

function writeText(out: Buffer, at: number, tag: number, text: string): number {
  out[at] = tag;
  const to = writeVarint(out, at + 1, text.length);
  for (let i = 0; i < text.length; i += 1) out[to + i] = text.charCodeAt(i);
  return to + text.length;
}

function writeBytes(out: Buffer, at: number, tag: number, bytes: Uint8Array): number {
  out[at] = tag;
  const to = writeVarint(out, at + 1, bytes.length);
  out.set(bytes, to);
  return to + bytes.length;
}

/** The record's bytes: the same that protobuf's encoder makes of the same record (fields in order). */
export function encodeRecord(parts: RecordParts): Uint8Array {
  const { conversationId, senderId, clientId, body } = parts;
  const size =
    1 +
    varintLength(conversationId.length) +
    conversationId.length +
    (1 + varintLength(parts.seq)) +
    (senderId === "" ? 0 : 1 + varintLength(senderId.length) + senderId.length) +
    (clientId.length === 0 ? 0 : 2 + clientId.length) +
    (1 + varintLength(parts.timeMs)) +
    (parts.ordinal === 0 ? 0 : 1 + varintLength(parts.ordinal)) +
    (1 + varintLength(body.length) + body.length);
  const out = Buffer.allocUnsafe(size);
  let at = writeText(out, 0, 0x0a, conversationId);
  out[at] = 0x10;
  at = writeVarint(out, at + 1, parts.seq);
  if (senderId !== "") at = writeText(out, at, 0x1a, senderId);
  if (clientId.length > 0) at = writeBytes(out, at, 0x22, clientId);
  out[at] = 0x28;
  at = writeVarint(out, at + 1, parts.timeMs);
  if (parts.ordinal > 0) {
    out[at] = 0x30;
    at = writeVarint(out, at + 1, parts.ordinal);
  }
  writeBytes(out, at, tags[parts.kind], body);
  return out;
}

export function encodeMembership(change: MembershipChange): Uint8Array {
  const { added, removed, title } = change;
  const message = create(MembershipChangeSchema, {
    added,
    removed,
    ...(title === undefined ? {} : { title }),
  });
  return toBinary(MembershipChangeSchema, message);
}

/** For takeovers and look-ups, not for the message path. */
export function decodeRecord(bytes: Uint8Array): ChatRecord {
  return fromBinary(RecordSchema, bytes);
}
