/** One push from session for many connections: encoded once for WebSockets, decoded once for Connect, and only where somebody needs it. */
import { fromBinary } from "@bufbuild/protobuf";
import type { Pushed } from "../proto/gen/parley/v1/chat_pb.ts";
import { RecordSchema } from "../proto/gen/parley/v1/record_pb.ts";
import type { Payload } from "../proto/gen/parley/session/v1/session_pb.ts";
import { senderOf } from "./frames.ts";
import type { Chunk, FrameWriter } from "./frames.ts";

export type PushPayload = Payload["payload"];

export const emptyPushed = (): Pushed => ({
  $typeName: "parley.v1.Pushed",
  records: [],
  cursors: [],
  presences: [],
  typings: [],
  resync: false,
});

/** A Payload as clients see it. */
function pushedOf(payload: PushPayload): Pushed {
  const pushed = emptyPushed();
  switch (payload.case) {
    case "record":
      pushed.records.push(fromBinary(RecordSchema, payload.value.record));
      return pushed;
    case "cursors":
      pushed.cursors = payload.value.cursors;
      return pushed;
    case "presences":
      pushed.presences = payload.value.presences;
      return pushed;
    case "typing":
      pushed.typings.push(payload.value);
      return pushed;
    case "resync":
    case undefined:
      pushed.resync = payload.value === true;
      return pushed;
  }
}

function chunkOf(payload: PushPayload, writer: FrameWriter): Chunk {
  if (payload.case === "record") return writer.record(payload.value.record);
  if (payload.case === "cursors") return writer.cursors(payload.value.cursors);
  return writer.other(0, { case: "pushed", value: pushedOf(payload) });
}

export class SharedPush {
  readonly payload: PushPayload;
  readonly #writer: FrameWriter;
  #chunk: Chunk | undefined;
  #pushed: Pushed | undefined;
  #senderId: string | undefined;

  constructor(payload: PushPayload, writer: FrameWriter) {
    this.payload = payload;
    this.#writer = writer;
  }

  /** For a WebSocket's outbox. */
  get chunk(): Chunk {
    return (this.#chunk ??= chunkOf(this.payload, this.#writer));
  }

  /** For Connect. Nobody may change it. */
  get pushed(): Pushed {
    return (this.#pushed ??= pushedOf(this.payload));
  }

  /** Who sent the record; empty where it is no record. */
  get senderId(): string {
    if (this.#senderId !== undefined) return this.#senderId;
    const { payload } = this;
    this.#senderId = payload.case === "record" ? senderOf(payload.value.record) : "";
    return this.#senderId;
  }

  /** About how much it keeps in memory until it is sent. */
  get bytes(): number {
    if (this.#chunk !== undefined) return this.#chunk.length;
    return this.payload.case === "record" ? this.payload.value.record.length + 64 : 256;
  }
}
