/** Frames to bytes and back. It must not know what the frames are for. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  ClientBatchSchema,
  ServerBatchSchema,
  ServerFrameSchema,
  type ClientFrame,
  type ServerFrame,
} from "../proto/gen/parley/v1/frame_pb.ts";

/** What a call asks, and what answers it. */
export type Ask = ClientFrame["frame"];
export type Answer = ServerFrame["frame"];

export function encodeClientBatch(frames: readonly ClientFrame[]): Uint8Array<ArrayBuffer> {
  return toBinary(ClientBatchSchema, create(ClientBatchSchema, { frames: [...frames] }));
}

/** Throws where the bytes are no ServerBatch. */
export function decodeServerBatch(bytes: Uint8Array): ServerFrame[] {
  return fromBinary(ServerBatchSchema, bytes).frames;
}

export interface PackedBatch {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** How many it has. */
  readonly frames: number;
}

export interface PackedBatches {
  batches: PackedBatch[];
  /** Frames that are larger than the server takes; in no batch. */
  tooLarge: ClientFrame[];
}

/** Packs frames, in order, into as few batches as the bounds allow. Repeated fields concatenate, so batches do. */
export function packClientBatches(
  frames: readonly ClientFrame[],
  maxBytes: number,
  maxFrames: number,
): PackedBatches {
  const packed: PackedBatches = { batches: [], tooLarge: [] };
  let parts: Uint8Array[] = [];
  let size = 0;
  const finish = (): void => {
    if (parts.length > 0)
      packed.batches.push({ bytes: concatenate(parts, size), frames: parts.length });
    parts = [];
    size = 0;
  };
  for (const frame of frames) {
    const bytes = encodeClientBatch([frame]);
    if (bytes.length > maxBytes) {
      packed.tooLarge.push(frame);
      continue;
    }
    if (size + bytes.length > maxBytes || parts.length >= maxFrames) finish();
    parts.push(bytes);
    size += bytes.length;
  }
  finish();
  return packed;
}

function concatenate(parts: readonly Uint8Array[], size: number): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** A failure frame made on this side, in the form of the server's. */
export function failureFrame(
  requestId: number,
  code: number,
  message: string,
  retryAfterMs = 0,
): ServerFrame {
  return create(ServerFrameSchema, {
    requestId,
    frame: {
      case: "failure",
      value: { $typeName: "parley.v1.Failure", code, message, retryAfterMs },
    },
  });
}
