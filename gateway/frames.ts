/** The WebSocket's frames: finds them in a client's batch, and encodes the hot ones of the server by hand. It must not know what a frame does. */
import { toBinary } from "@bufbuild/protobuf";
import type { Cursor } from "../proto/gen/parley/v1/record_pb.ts";
import { ServerFrameSchema } from "../proto/gen/parley/v1/frame_pb.ts";
import type { ServerFrame } from "../proto/gen/parley/v1/frame_pb.ts";
import { ProtocolError, WireReader, WireWriter, lengthType, varintType } from "./wire.ts";

/** ClientFrame's field numbers. */
export const frameKinds = {
  hello: 2,
  heartbeatReply: 3,
  send: 4,
  moveCursor: 5,
  sync: 6,
  history: 7,
  listMembers: 8,
  createGroup: 9,
  updateGroup: 10,
  watchPresence: 11,
  setTyping: 12,
} as const;

const lastFrameKind = 12;

/** A client's frame, its message not yet decoded: the bytes from start to end. */
export interface InFrame {
  requestId: number;
  /** One of `frameKinds`; 0 where it has none that this server knows. */
  kind: number;
  bytes: Buffer;
  start: number;
  end: number;
}

/** A SendRequest with its content as it came. */
export interface SendFrame {
  conversationId: string;
  /** Set where the send is to a user; then conversationId is empty. */
  userId: string;
  clientId: Buffer;
  /** Undefined where there is none. */
  content: Buffer | undefined;
  knownHeadSeq: number;
  retry: boolean;
}

export interface MoveFrame {
  conversationId: string;
  deliveredSeq: number;
  readSeq: number;
}

const nothing = Buffer.alloc(0);

/** For batches, and for what is in them: made once, as they are used for every message. */
const batches = new WireReader();
const messages = new WireReader();

/** The same bytes, not copied. */
export function bufferOf(bytes: Uint8Array): Buffer {
  if (Buffer.isBuffer(bytes)) return bytes;
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The frames of a ClientBatch. Throws a ProtocolError where the bytes are none, or where it has more than `framesMax` frames. */
export function readBatch(bytes: Buffer, framesMax: number): InFrame[] {
  const frames: InFrame[] = [];
  const reader = batches.open(bytes, 0, bytes.length);
  while (reader.more()) {
    const tag = reader.tag();
    if (tag >>> 3 !== 1) {
      reader.skip(tag);
      continue;
    }
    reader.span(tag);
    if (frames.length === framesMax) {
      throw new ProtocolError(`more than ${framesMax} frames in a batch`);
    }
    frames.push(readFrame(bytes, reader.from, reader.at));
  }
  if (frames.length === 0) throw new ProtocolError("a batch without a frame");
  return frames;
}

function readFrame(bytes: Buffer, start: number, end: number): InFrame {
  const frame: InFrame = { requestId: 0, kind: 0, bytes, start: 0, end: 0 };
  const reader = messages.open(bytes, start, end);
  while (reader.more()) {
    const tag = reader.tag();
    const field = tag >>> 3;
    if (field === 1) {
      frame.requestId = reader.uint(tag);
    } else if (field <= lastFrameKind) {
      reader.span(tag);
      if (frame.kind === field) mergeSpan(frame, bytes, reader.from, reader.at);
      else setSpan(frame, field, bytes, reader.from, reader.at);
    } else {
      reader.skip(tag);
    }
  }
  return frame;
}

function setSpan(frame: InFrame, kind: number, bytes: Buffer, start: number, end: number): void {
  frame.kind = kind;
  frame.bytes = bytes;
  frame.start = start;
  frame.end = end;
}

/** Protobuf merges a message that is given twice, which is what the two one after the other say. */
function mergeSpan(frame: InFrame, bytes: Buffer, start: number, end: number): void {
  const first = frame.bytes.subarray(frame.start, frame.end);
  const merged = Buffer.concat([first, bytes.subarray(start, end)]);
  setSpan(frame, frame.kind, merged, 0, merged.length);
}

/** `likelyId` is the conversation that it is probably for. */
export function readSend(frame: InFrame, likelyId = ""): SendFrame {
  const send: SendFrame = {
    conversationId: "",
    userId: "",
    clientId: nothing,
    content: undefined,
    knownHeadSeq: 0,
    retry: false,
  };
  const reader = messages.open(frame.bytes, frame.start, frame.end);
  while (reader.more()) {
    const tag = reader.tag();
    switch (tag >>> 3) {
      case 1:
        send.conversationId = reader.textLike(tag, likelyId);
        send.userId = "";
        break;
      case 2:
        send.userId = reader.text(tag);
        send.conversationId = "";
        break;
      case 3:
        send.clientId = reader.slice(tag);
        break;
      case 4:
        send.content =
          send.content === undefined
            ? reader.slice(tag)
            : Buffer.concat([send.content, reader.slice(tag)]);
        break;
      case 5:
        send.knownHeadSeq = reader.uint(tag);
        break;
      case 6:
        if (tag !== 6 * 8 + varintType) throw new ProtocolError("field 6 has the wrong type");
        send.retry = reader.bool();
        break;
      default:
        reader.skip(tag);
    }
  }
  return send;
}

export function readMove(frame: InFrame, likelyId = ""): MoveFrame {
  const move: MoveFrame = { conversationId: "", deliveredSeq: 0, readSeq: 0 };
  const reader = messages.open(frame.bytes, frame.start, frame.end);
  while (reader.more()) {
    const tag = reader.tag();
    switch (tag >>> 3) {
      case 1:
        move.conversationId = reader.textLike(tag, likelyId);
        break;
      case 2:
        move.deliveredSeq = reader.uint(tag);
        break;
      case 3:
        move.readSeq = reader.uint(tag);
        break;
      default:
        reader.skip(tag);
    }
  }
  return move;
}

/** Whether an encoded Record is by this user. False where it is no record. */
export function isSentBy(record: Uint8Array, userId: string): boolean {
  const bytes = bufferOf(record);
  const reader = messages.open(bytes, 0, bytes.length);
  try {
    while (reader.more()) {
      const tag = reader.tag();
      reader.skip(tag);
      if (tag === 3 * 8 + lengthType) return reader.holds(userId);
    }
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
  }
  return false;
}

/** How old a record is; undefined where it does not say when it was made. Of both times the low 32 bits do: 24 days. Never less than 0. */
export function ageMs(record: Uint8Array, nowMs: number): number | undefined {
  const bytes = bufferOf(record);
  const reader = messages.open(bytes, 0, bytes.length);
  try {
    while (reader.more()) {
      const tag = reader.tag();
      if (tag === 5 * 8 + varintType) return Math.max(0, (nowMs - reader.varint()) | 0);
      reader.skip(tag);
    }
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
  }
  return undefined;
}

/** One ServerFrame as a field of a ServerBatch: a batch is its chunks one after the other. */
export type Chunk = Buffer;

type Frame = ServerFrame["frame"];

/**
 * Encodes frames, each of which goes before what was written last. It has one buffer for all of them: one for each gateway.
 * What begins with `put` leaves a frame there, to be taken with others; the rest answers with the frame.
 */
export class FrameWriter {
  readonly #writer = new WireWriter();

  /** All frames that were put. */
  take(): Chunk {
    return this.#writer.take(0);
  }

  putSent(
    requestId: number,
    conversationId: string,
    seq: number,
    timeMs: bigint,
    duplicate: boolean,
  ): void {
    const writer = this.#writer;
    const before = writer.written;
    writer.uint(4, duplicate ? 1 : 0);
    writer.uint(3, Number(timeMs));
    writer.uint(2, seq);
    writer.text(1, conversationId);
    this.#put(requestId, 4, before);
  }

  putMoved(
    requestId: number,
    conversationId: string,
    userId: string,
    deliveredSeq: number,
    readSeq: number,
  ): void {
    const writer = this.#writer;
    const before = writer.written;
    writer.uint(4, readSeq);
    writer.uint(3, deliveredSeq);
    writer.text(2, userId);
    writer.text(1, conversationId);
    writer.wrap(1, writer.written - before);
    this.#put(requestId, 5, before);
  }

  /** A Pushed with one record. */
  putRecord(record: Uint8Array): void {
    const before = this.#writer.written;
    this.#writer.bytes(1, record);
    this.#put(0, 13, before);
  }

  /** A frame that was encoded before. */
  putChunk(chunk: Chunk): void {
    this.#writer.raw(chunk);
  }

  failure(requestId: number, code: number, message: string, retryAfterMs: number): Chunk {
    const writer = this.#writer;
    const before = writer.written;
    writer.uint(3, retryAfterMs);
    writer.text(2, message);
    writer.uint(1, code);
    this.#put(requestId, 3, before);
    return writer.take(before);
  }

  record(record: Uint8Array): Chunk {
    const before = this.#writer.written;
    this.putRecord(record);
    return this.#writer.take(before);
  }

  /** A Pushed with cursors. */
  cursors(cursors: readonly Cursor[]): Chunk {
    const writer = this.#writer;
    const before = writer.written;
    for (let at = cursors.length - 1; at >= 0; at -= 1) {
      const cursor = cursors[at];
      if (cursor === undefined) continue;
      const start = writer.written;
      writer.uint(4, cursor.readSeq);
      writer.uint(3, cursor.deliveredSeq);
      writer.text(2, cursor.userId);
      writer.text(1, cursor.conversationId);
      writer.wrap(2, writer.written - start);
    }
    this.#put(0, 13, before);
    return writer.take(before);
  }

  /** A frame of `kind` (a field of ServerFrame) whose message is encoded already. */
  encoded(requestId: number, kind: number, message: Uint8Array): Chunk {
    const before = this.#writer.written;
    this.#writer.raw(message);
    this.#put(requestId, kind, before);
    return this.#writer.take(before);
  }

  /** Any other frame. */
  other(requestId: number, frame: Frame): Chunk {
    const message = { $typeName: "parley.v1.ServerFrame", requestId, frame } satisfies ServerFrame;
    const writer = this.#writer;
    const before = writer.written;
    writer.raw(toBinary(ServerFrameSchema, message));
    writer.wrap(1, writer.written - before);
    return writer.take(before);
  }

  /** Makes what was written since `before` a frame. */
  #put(requestId: number, kind: number, before: number): void {
    const writer = this.#writer;
    writer.wrap(kind, writer.written - before);
    writer.uint(1, requestId);
    writer.wrap(1, writer.written - before);
  }
}
