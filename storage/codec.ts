/** How the embedded store writes its things as bytes: by hand, since this runs for every message. It must not know where they are kept. */
import type {
  Cell,
  ConversationState,
  LeastCursor,
  MediaHeader,
  Member,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { Kind } from "../proto/gen/parley/storage/v1/storage_pb.ts";

/** A part of a buffer that is written once. Places in it count from its base, and hold when it moves to a larger buffer. */
export interface Region {
  bytes: Buffer;
  base: number;
}

/** Fields one after another in a region. */
export class Writer {
  readonly #capacity: number;
  #region: Region;
  #at = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#region = { bytes: Buffer.allocUnsafeSlow(capacity), base: 0 };
  }

  get region(): Region {
    return this.#region;
  }

  get length(): number {
    return this.#at - this.#region.base;
  }

  /** The region's content so far. */
  get bytes(): Buffer {
    return this.slice(0);
  }

  /** What was written from `from` on. It stays as it is when more is written. */
  slice(from: number): Buffer {
    return this.#region.bytes.subarray(this.#region.base + from, this.#at);
  }

  /** Begins another region. What is in the ones before stays. */
  begin(): void {
    this.#region = { bytes: this.#region.bytes, base: this.#at };
  }

  /** Forgets what is behind `length`, which the next fields write over. */
  reset(length = 0): void {
    this.#at = this.#region.base + length;
  }

  #reserve(more: number): void {
    const region = this.#region;
    if (this.#at + more <= region.bytes.length) return;
    const { length } = this;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#capacity, 2 * length + more));
    region.bytes.copy(larger, 0, region.base, this.#at);
    region.bytes = larger;
    region.base = 0;
    this.#at = length;
  }

  byte(value: number): void {
    this.#reserve(1);
    this.#region.bytes[this.#at++] = value;
  }

  /** 0 <= value < 2^32. */
  uint(value: number): void {
    this.#reserve(5);
    let rest = value;
    while (rest > 127) {
      this.#region.bytes[this.#at++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    this.#region.bytes[this.#at++] = rest;
  }

  /** Any 64 bits. Small ones, which terms and times are, as two halves without a big number's cost. */
  wide(value: bigint): void {
    const small = Number(value);
    if (small > Number.MAX_SAFE_INTEGER || small < 0) {
      this.byte(255);
      this.#reserve(8);
      this.#at = this.#region.bytes.writeBigUInt64LE(BigInt.asUintN(64, value), this.#at);
      return;
    }
    this.byte(0);
    this.uint(small % 0x1_0000_0000);
    this.uint(Math.floor(small / 0x1_0000_0000));
  }

  text(value: string): void {
    const { length } = value;
    this.#reserve(length * 3 + 5);
    const buffer = this.#region.bytes;
    if (length < 128) {
      let at = this.#at;
      let index = 0;
      buffer[at++] = length;
      while (index < length) {
        const unit = value.charCodeAt(index);
        if (unit > 127) break;
        buffer[at++] = unit;
        index += 1;
      }
      if (index === length) {
        this.#at = at;
        return;
      }
    }
    const size = Buffer.byteLength(value);
    this.uint(size);
    this.#at += this.#region.bytes.write(value, this.#at, size);
  }

  /** What is already encoded. */
  copy(from: Buffer, start: number, end: number): void {
    this.#reserve(end - start);
    this.#at += from.copy(this.#region.bytes, this.#at, start, end);
  }

  bytesField(value: Uint8Array): void {
    this.uint(value.length);
    this.#reserve(value.length);
    this.#region.bytes.set(value, this.#at);
    this.#at += value.length;
  }
}

/** Reads what a Writer wrote. Bytes that end too early are an error. */
export class Reader {
  #at = 0;
  readonly #buffer: Buffer;

  constructor(bytes: Uint8Array) {
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** How much was read. */
  get at(): number {
    return this.#at;
  }

  get more(): boolean {
    return this.#at < this.#buffer.length;
  }

  byte(): number {
    const value = this.#buffer[this.#at];
    if (value === undefined) throw new Error("a stored value ends too early");
    this.#at += 1;
    return value;
  }

  uint(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.byte();
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  }

  wide(): bigint {
    if (this.byte() === 0) return BigInt(this.uint() + this.uint() * 0x1_0000_0000);
    this.#need(8);
    const value = this.#buffer.readBigUInt64LE(this.#at);
    this.#at += 8;
    return value;
  }

  text(): string {
    const length = this.uint();
    this.#need(length);
    this.#at += length;
    return this.#buffer.toString("utf8", this.#at - length, this.#at);
  }

  /** A view of what was read. */
  bytesField(): Uint8Array {
    const length = this.uint();
    this.#need(length);
    this.#at += length;
    return this.#buffer.subarray(this.#at - length, this.#at);
  }

  #need(length: number): void {
    if (this.#at + length > this.#buffer.length) throw new Error("a stored value ends too early");
  }
}

export function writeCell(to: Writer, cell: Cell): void {
  to.uint(cell.seq);
  to.wide(cell.epoch);
  to.wide(cell.term);
  to.wide(cell.previousTerm);
  to.bytesField(cell.record);
}

export function readCell(from: Reader): Cell {
  return {
    $typeName: "parley.storage.v1.Cell",
    seq: from.uint(),
    epoch: from.wide(),
    term: from.wide(),
    previousTerm: from.wide(),
    record: from.bytesField(),
  };
}

export function writeMember(to: Writer, member: Member): void {
  to.text(member.userId);
  to.uint(member.floorSeq);
  to.uint(member.leftSeq);
  to.uint(member.deliveredSeq);
  to.uint(member.readSeq);
  to.uint(member.readOrdinal);
}

export function readMember(from: Reader): Member {
  return {
    $typeName: "parley.storage.v1.Member",
    userId: from.text(),
    floorSeq: from.uint(),
    leftSeq: from.uint(),
    deliveredSeq: from.uint(),
    readSeq: from.uint(),
    readOrdinal: from.uint(),
  };
}

function writeLeast(to: Writer, least: LeastCursor | undefined): void {
  to.byte(least === undefined ? 0 : 1);
  if (least === undefined) return;
  to.text(least.userId);
  to.uint(least.seq);
  to.uint(least.secondSeq);
}

function readLeast(from: Reader): LeastCursor | undefined {
  if (from.byte() === 0) return undefined;
  return {
    $typeName: "parley.storage.v1.LeastCursor",
    userId: from.text(),
    seq: from.uint(),
    secondSeq: from.uint(),
  };
}

export function writeState(to: Writer, state: ConversationState): void {
  to.byte(state.kind);
  to.text(state.title);
  to.uint(state.headSeq);
  to.uint(state.headOrdinal);
  to.wide(state.headTimeMs);
  to.wide(state.headTerm);
  to.uint(state.memberCount);
  writeLeast(to, state.leastDelivered);
  writeLeast(to, state.leastRead);
}

const kinds = [Kind.UNSPECIFIED, Kind.DIRECT, Kind.GROUP] as const;

export function readState(from: Reader): ConversationState {
  return {
    $typeName: "parley.storage.v1.ConversationState",
    kind: kinds[from.byte()] ?? Kind.UNSPECIFIED,
    title: from.text(),
    headSeq: from.uint(),
    headOrdinal: from.uint(),
    headTimeMs: BigInt.asIntN(64, from.wide()),
    headTerm: from.wide(),
    memberCount: from.uint(),
    leastDelivered: readLeast(from),
    leastRead: readLeast(from),
  };
}

export function writeMedia(to: Writer, header: MediaHeader): void {
  to.text(header.conversationId);
  to.text(header.mediaId);
  to.text(header.mediaType);
  to.uint(header.size);
  to.uint(header.width);
  to.uint(header.height);
  to.bytesField(header.thumbnail);
}

export function readMedia(from: Reader): MediaHeader {
  return {
    $typeName: "parley.storage.v1.MediaHeader",
    conversationId: from.text(),
    mediaId: from.text(),
    mediaType: from.text(),
    size: from.uint(),
    width: from.uint(),
    height: from.uint(),
    thumbnail: from.bytesField(),
  };
}
