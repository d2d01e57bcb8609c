/** Reads ServerBatches in place: tells a handler what is in them, in their order, without making an object a frame. */
import { serverField } from "./codec.ts";

/** What a reader of batches is told. `bytes` is valid only during the call. */
export interface ServerFrames {
  sent(requestId: number, seq: number, duplicate: boolean): void;
  /** A pushed message; its text is bytes[textStart, textEnd), which is empty where the record is no message. */
  record(bytes: Buffer, seq: number, textStart: number, textEnd: number): void;
  cursor(deliveredSeq: number): void;
  resync(): void;
  heartbeat(): void;
  goodbye(reason: number): void;
  /** All others: the body is bytes[start, end). */
  other(requestId: number, field: number, bytes: Buffer, start: number, end: number): void;
}

const nothing = Buffer.alloc(0);

export class FrameReader {
  #bytes: Buffer = nothing;
  #at = 0;

  batch(bytes: Buffer, start: number, end: number, to: ServerFrames): void {
    this.#bytes = bytes;
    this.#at = start;
    while (this.#at < end) {
      const tag = this.#varint();
      if (tag !== 10) {
        this.#skip(tag);
        continue;
      }
      const frameEnd = this.#end(end);
      this.#frame(frameEnd, to);
      this.#at = frameEnd;
    }
  }

  #frame(end: number, to: ServerFrames): void {
    let requestId = 0;
    while (this.#at < end) {
      const tag = this.#varint();
      if (tag === 8) {
        requestId = this.#varint();
        continue;
      }
      if ((tag & 7) !== 2) {
        this.#skip(tag);
        continue;
      }
      const bodyEnd = this.#end(end);
      const field = tag >>> 3;
      if (field === serverField.pushed) this.#pushed(bodyEnd, to);
      else if (field === serverField.send) this.#sent(requestId, bodyEnd, to);
      else if (field === serverField.heartbeat) to.heartbeat();
      else if (field === serverField.goodbye) to.goodbye(this.#firstVarint(bodyEnd));
      else if (field !== serverField.moveCursor) {
        to.other(requestId, field, this.#bytes, this.#at, bodyEnd);
      }
      this.#at = bodyEnd;
    }
  }

  #sent(requestId: number, end: number, to: ServerFrames): void {
    let seq = 0;
    let duplicate = false;
    while (this.#at < end) {
      const tag = this.#varint();
      if (tag === 16) seq = this.#varint();
      else if (tag === 32) duplicate = this.#varint() !== 0;
      else this.#skip(tag);
    }
    to.sent(requestId, seq, duplicate);
  }

  #pushed(end: number, to: ServerFrames): void {
    while (this.#at < end) {
      const tag = this.#varint();
      if (tag === 10) {
        const recordEnd = this.#end(end);
        this.#record(recordEnd, to);
        this.#at = recordEnd;
      } else if (tag === 18) {
        const cursorEnd = this.#end(end);
        to.cursor(this.#cursor(cursorEnd));
        this.#at = cursorEnd;
      } else if (tag === 40) {
        if (this.#varint() !== 0) to.resync();
      } else this.#skip(tag);
    }
  }

  #record(end: number, to: ServerFrames): void {
    let seq = 0;
    let textStart = 0;
    let textEnd = 0;
    while (this.#at < end) {
      const tag = this.#varint();
      if (tag === 16) seq = this.#varint();
      else if (tag === 58) {
        const contentEnd = this.#end(end);
        while (this.#at < contentEnd) {
          const contentTag = this.#varint();
          if (contentTag === 10) {
            textEnd = this.#end(contentEnd);
            textStart = this.#at;
            this.#at = textEnd;
          } else this.#skip(contentTag);
        }
      } else this.#skip(tag);
    }
    to.record(this.#bytes, seq, textStart, textEnd);
  }

  #cursor(end: number): number {
    let delivered = 0;
    while (this.#at < end) {
      const tag = this.#varint();
      if (tag === 24) delivered = this.#varint();
      else this.#skip(tag);
    }
    return delivered;
  }

  #firstVarint(end: number): number {
    while (this.#at < end) {
      const tag = this.#varint();
      if (tag === 8) return this.#varint();
      this.#skip(tag);
    }
    return 0;
  }

  /** Reads a length and answers where the field ends, which must be within `limit`. */
  #end(limit: number): number {
    const length = this.#varint();
    const end = this.#at + length;
    if (end > limit) throw new Error(`a field of ${length} bytes passes the end of its message`);
    return end;
  }

  /** Exact up to 2^53; what is larger (sums, never looked at) is only skipped. */
  #varint(): number {
    const bytes = this.#bytes;
    let byte = bytes[this.#at++] ?? 0;
    if (byte < 128) return byte;
    let value = byte & 127;
    let scale = 128;
    do {
      byte = bytes[this.#at++] ?? 0;
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte >= 128);
    return value;
  }

  #skip(tag: number): void {
    const kind = tag & 7;
    if (kind === 0) this.#varint();
    else if (kind === 2) this.#at = this.#end(this.#bytes.length);
    else if (kind === 1) this.#at += 8;
    else if (kind === 5) this.#at += 4;
    else throw new Error(`wire type ${kind} is not one of Protobuf's`);
  }
}

/** What the benchmark looks at in a SyncResponse. */
export interface SyncAnswer {
  readonly heads: Map<string, number>;
  readonly token: Buffer;
  readonly complete: boolean;
}

/** The fields of any message, for the frames that come rarely. */
export function fieldsOf(message: Buffer): Map<number, (number | Buffer)[]> {
  const fields = new Map<number, (number | Buffer)[]>();
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at++];
      if (byte === undefined) throw new Error("a message ends in the middle of a number");
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const tag = varint();
    const values = fields.get(tag >>> 3) ?? [];
    fields.set(tag >>> 3, values);
    if ((tag & 7) === 0) values.push(varint());
    else if ((tag & 7) === 2) {
      const length = varint();
      values.push(message.subarray(at, at + length));
      at += length;
    } else throw new Error(`field ${tag >>> 3} is neither a number nor bytes`);
  }
  return fields;
}

export const numberIn = (fields: Map<number, (number | Buffer)[]>, field: number): number => {
  const value = fields.get(field)?.at(-1);
  return typeof value === "number" ? value : 0;
};

export const bytesIn = (fields: Map<number, (number | Buffer)[]>, field: number): Buffer => {
  const value = fields.get(field)?.at(-1);
  return typeof value === "object" ? value : nothing;
};

export function syncAnswer(message: Buffer): SyncAnswer {
  const fields = fieldsOf(message);
  const heads = new Map<string, number>();
  for (const delta of fields.get(1) ?? []) {
    if (typeof delta === "number") continue;
    const conversation = fieldsOf(bytesIn(fieldsOf(delta), 1));
    heads.set(bytesIn(conversation, 1).toString(), numberIn(conversation, 4));
  }
  return { heads, token: Buffer.from(bytesIn(fields, 2)), complete: numberIn(fields, 3) === 1 };
}
