/** Finds who sent a parley.v1.Record in its bytes, without decoding what was said. */

const varint = 0;
const fixed64 = 1;
const lengthDelimited = 2;
const fixed32 = 5;

const senderIdField = 3;
const clientIdField = 4;
const timeField = 5;

/** What a search for a send looks at. */
export interface SendMark {
  senderId: Uint8Array;
  clientId: Uint8Array;
  timeMs: number;
}

const nothing = new Uint8Array(0);

/** The marks of a record; those that it lacks are empty. Bytes that are no Protobuf message have none from the fault on. */
export function sendMark(record: Uint8Array): SendMark {
  const mark: SendMark = { senderId: nothing, clientId: nothing, timeMs: 0 };
  const scan = new WireScan(record);
  while (scan.next()) {
    if (scan.field === senderIdField) mark.senderId = scan.bytes();
    else if (scan.field === clientIdField) mark.clientId = scan.bytes();
    else if (scan.field === timeField) mark.timeMs = scan.uint();
    else scan.skip();
  }
  return mark;
}

/** Walks over a message's fields. After `next`, exactly one of `bytes`, `uint` and `skip` is to be called. */
class WireScan {
  field = 0;
  #wireType = 0;
  #at = 0;
  readonly #message: Uint8Array;

  constructor(message: Uint8Array) {
    this.#message = message;
  }

  next(): boolean {
    if (this.#at >= this.#message.length) return false;
    const tag = this.#varint();
    this.field = Math.floor(tag / 8);
    this.#wireType = tag & 7;
    return this.field !== 0;
  }

  bytes(): Uint8Array {
    if (this.#wireType !== lengthDelimited) {
      this.skip();
      return nothing;
    }
    const from = this.#passed(this.#varint());
    return this.#message.subarray(from, this.#at);
  }

  /** Exact up to 2^53. */
  uint(): number {
    if (this.#wireType === varint) return this.#varint();
    this.skip();
    return 0;
  }

  skip(): void {
    if (this.#wireType === varint) this.#varint();
    else if (this.#wireType === lengthDelimited) this.#passed(this.#varint());
    else if (this.#wireType === fixed64) this.#passed(8);
    else if (this.#wireType === fixed32) this.#passed(4);
    else this.#at = this.#message.length;
  }

  /** Goes on by so many bytes, and answers from where. */
  #passed(length: number): number {
    const from = this.#at;
    this.#at = from + length;
    return from;
  }

  #varint(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#message[this.#at];
      this.#at += 1;
      if (byte === undefined) return value;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  }
}
