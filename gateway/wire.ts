/** Protobuf's wire format by hand, for the few messages that every chat message passes through. It knows no message, only fields. */

/** Bytes that are not what they should be. The text says what is wrong, for whoever sent them. */
export class ProtocolError extends Error {}

export const varintType = 0;
export const lengthType = 2;

/** Longer texts are left to the platform. */
const asciiMax = 64;

const nothing = Buffer.alloc(0);

/**
 * Reads fields of one message in place. Any bytes end in a value or a ProtocolError. One reader may read message after message, as long
 * as nobody needs it for two at a time.
 */
export class WireReader {
  bytes: Buffer = nothing;
  /** The next byte to read. */
  at = 0;
  end = 0;
  /** Where the last `span` began; it ended at `at`. */
  from = 0;

  /** Begins with the message in the bytes from start to end. */
  open(bytes: Buffer, start: number, end: number): this {
    this.bytes = bytes;
    this.at = start;
    this.from = start;
    this.end = end;
    return this;
  }

  more(): boolean {
    return this.at < this.end;
  }

  /** The low 32 bits of a varint. */
  varint(): number {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#byte();
      if (shift < 32) value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
    throw new ProtocolError("a number has more than 10 bytes");
  }

  /** Whether a varint has any bit set. */
  bool(): boolean {
    let bits = 0;
    for (let count = 0; count < 10; count += 1) {
      const byte = this.#byte();
      bits |= byte & 0x7f;
      if (byte < 0x80) return bits !== 0;
    }
    throw new ProtocolError("a number has more than 10 bytes");
  }

  /** A field's tag: its number times 8 plus its wire type. */
  tag(): number {
    const tag = this.varint();
    if (tag >>> 3 === 0) throw new ProtocolError("a field has the number 0");
    return tag;
  }

  /** Steps over a length-delimited value, which is then from `from` to `at`. */
  span(tag: number): void {
    if ((tag & 7) !== lengthType) throw new ProtocolError(`field ${tag >>> 3} has the wrong type`);
    const length = this.varint();
    this.from = this.at;
    if (length > this.end - this.at) throw new ProtocolError("a value ends beyond its message");
    this.at += length;
  }

  /** A number's value, where the tag says that it is one. */
  uint(tag: number): number {
    if ((tag & 7) !== varintType) throw new ProtocolError(`field ${tag >>> 3} has the wrong type`);
    return this.varint();
  }

  text(tag: number): string {
    this.span(tag);
    return this.bytes.toString("utf8", this.from, this.at);
  }

  /** A text that is probably `guess`: then it is that string itself, which costs less than a new one, here and where it is looked up. */
  textLike(tag: number, guess: string): string {
    this.span(tag);
    return this.holds(guess) ? guess : this.bytes.toString("utf8", this.from, this.at);
  }

  /** Whether the last span is this text, of ASCII characters. */
  holds(text: string): boolean {
    const { bytes, from, at } = this;
    if (text.length !== at - from) return false;
    for (let index = from; index < at; index += 1) {
      const byte = bytes[index];
      if (byte !== text.charCodeAt(index - from) || byte > 127) return false;
    }
    return true;
  }

  /** The bytes of a length-delimited value, not copied. */
  slice(tag: number): Buffer {
    this.span(tag);
    return this.bytes.subarray(this.from, this.at);
  }

  /** Steps over a field that nobody here knows. */
  skip(tag: number): void {
    switch (tag & 7) {
      case varintType:
        this.bool();
        return;
      case 1:
        this.#step(8);
        return;
      case lengthType:
        this.span(tag);
        return;
      case 5:
        this.#step(4);
        return;
      default:
        throw new ProtocolError(`field ${tag >>> 3} has a type that is not in use`);
    }
  }

  #byte(): number {
    const byte = this.at < this.end ? this.bytes[this.at] : undefined;
    if (byte === undefined) throw new ProtocolError("a message ends in the middle of a field");
    this.at += 1;
    return byte;
  }

  #step(count: number): void {
    if (count > this.end - this.at) throw new ProtocolError("a value ends beyond its message");
    this.at += count;
  }
}

/**
 * Writes fields backwards, last one first, so that a message's length is known when it is written. One buffer is used again and again;
 * `take` copies what was written out of it.
 */
export class WireWriter {
  #bytes = Buffer.allocUnsafe(16_384);
  #at = 16_384;

  /** What was written so far: the difference of two is the length of what was written between. */
  get written(): number {
    return this.#bytes.length - this.#at;
  }

  uint(field: number, value: number): void {
    if (value === 0) return;
    this.#varint(value);
    this.#varint(field * 8 + varintType);
  }

  text(field: number, value: string): void {
    if (value === "") return;
    const length = this.#ascii(value) ? value.length : this.#utf8(value);
    this.wrap(field, length);
  }

  /** By hand, since that is what ids are. False where the text is something else, or long; then nothing is written. */
  #ascii(value: string): boolean {
    const { length } = value;
    if (length > asciiMax) return false;
    this.#room(length);
    const from = this.#at - length;
    for (let index = 0; index < length; index += 1) {
      const unit = value.charCodeAt(index);
      if (unit > 127) return false;
      this.#bytes[from + index] = unit;
    }
    this.#at = from;
    return true;
  }

  #utf8(value: string): number {
    const length = Buffer.byteLength(value);
    this.#room(length);
    this.#at -= length;
    this.#bytes.write(value, this.#at, length, "utf8");
    return length;
  }

  bytes(field: number, value: Uint8Array): void {
    this.raw(value);
    this.wrap(field, value.length);
  }

  /** Bytes that are fields already. */
  raw(value: Uint8Array): void {
    this.#room(value.length);
    this.#at -= value.length;
    this.#bytes.set(value, this.#at);
  }

  /** Makes the last `length` bytes written a length-delimited field. */
  wrap(field: number, length: number): void {
    this.#varint(length);
    this.#varint(field * 8 + lengthType);
  }

  /** What was written since `written` was `before`; what was written earlier stays. */
  take(before = 0): Buffer {
    const end = this.#bytes.length - before;
    const taken = Buffer.allocUnsafe(end - this.#at);
    taken.set(this.#bytes.subarray(this.#at, end));
    this.#at = end;
    if (before === 0 && this.#bytes.length > 1_048_576) {
      this.#bytes = Buffer.allocUnsafe(16_384);
      this.#at = 16_384;
    }
    return taken;
  }

  /** A whole number from 0 to 2^53 - 1. */
  #varint(value: number): void {
    let count = 1;
    for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) count += 1;
    this.#room(10);
    this.#at -= count;
    let rest = value;
    for (let at = this.#at; at < this.#at + count - 1; at += 1) {
      this.#bytes[at] = (rest % 128) + 128;
      rest = Math.floor(rest / 128);
    }
    this.#bytes[this.#at + count - 1] = rest;
  }

  #room(count: number): void {
    if (this.#at >= count) return;
    const written = this.written;
    const bytes = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, written + count + 1_024));
    this.#bytes.copy(bytes, bytes.length - written, this.#at);
    this.#at = bytes.length - written;
    this.#bytes = bytes;
  }
}
