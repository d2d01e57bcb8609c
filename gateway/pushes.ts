/** One push from session for many connections: encoded once for WebSockets, decoded once for Connect, and only where somebody needs it. */
import { fromBinary } from "@bufbuild/protobuf";
import type { Pushed } from "../proto/gen/parley/v1/chat_pb.ts";
import { RecordSchema } from "../proto/gen/parley/v1/record_pb.ts";
import type { Payload } from "../proto/gen/parley/session/v1/session_pb.ts";
import { isSentBy } from "./frames.ts";
import type { Chunk, FrameWriter } from "./frames.ts";
import type { OutFrame } from "./outbox.ts";

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

export class SharedPush implements OutFrame {
  readonly payload: PushPayload;
  #chunk: Chunk | undefined = undefined;
  #pushed: Pushed | undefined = undefined;
  #wasPut = false;

  constructor(payload: PushPayload) {
    this.payload = payload;
  }

  chunk(writer: FrameWriter): Chunk {
    return (this.#chunk ??= chunkOf(this.payload, writer));
  }

  /** Most records go to one connection: only what goes to several is worth a chunk of its own. */
  put(writer: FrameWriter): void {
    const { payload } = this;
    if (payload.case === "record" && !this.#wasPut) writer.putRecord(payload.value.record);
    else writer.putChunk(this.chunk(writer));
    this.#wasPut = true;
  }

  /** For Connect. Nobody may change it. */
  get pushed(): Pushed {
    return (this.#pushed ??= pushedOf(this.payload));
  }

  /** Whether it is a record by this user. */
  isBy(userId: string): boolean {
    const { payload } = this;
    return payload.case === "record" && isSentBy(payload.value.record, userId);
  }

  /** About how much it keeps in memory until it is sent; always the same. */
  get bytes(): number {
    const { payload } = this;
    if (payload.case === "record") return payload.value.record.length + 16;
    if (payload.case === "cursors") return 128 * payload.value.cursors.length;
    return payload.case === "presences" ? 128 * payload.value.presences.length : 256;
  }
}
