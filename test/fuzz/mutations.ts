/** Spoils valid inputs by chance: bytes, texts, JSON values and Protobuf messages, each in ways that its reader may not expect. */
import type { Random } from "../../mesh/random.ts";

/** Chance in the forms in which it is needed. */
export class Dice {
  readonly random: Random;

  constructor(random: Random) {
    this.random = random;
  }

  /** 0 to `end` - 1. */
  below(end: number): number {
    return Math.floor(this.random.unit() * end);
  }

  chance(share: number): boolean {
    return this.random.unit() < share;
  }

  pick<T>(list: readonly [T, ...T[]]): T;
  pick<T>(list: readonly T[]): T | undefined;
  pick<T>(list: readonly T[]): T | undefined {
    return list[this.below(list.length)];
  }

  /** Many small ones, few large ones. */
  size(max: number): number {
    return Math.floor(max ** this.random.unit());
  }

  bytes(length: number): Buffer {
    return Buffer.from(this.random.bytes(length));
  }
}

const edgeBytes = [0, 1, 0x0a, 0x0d, 0x20, 0x22, 0x7f, 0x80, 0xc0, 0xed, 0xfe, 0xff] as const;
const edgeNumbers = [
  0n,
  1n,
  127n,
  128n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
] as const;
const edgeTexts = [
  "",
  " ",
  "\0",
  "\r\n",
  "d:alice:bob",
  "d:bob:alice",
  "d:a:a",
  "g:",
  "g:0123456789abcdefghijkl",
  "../../etc/passwd",
  "%00",
  "__proto__",
  "constructor",
  "\ud800",
  "\u202e\ufeff",
  "🙂".repeat(65),
  "a".repeat(10_000),
  "NaN",
  "-1",
  "1e400",
  "AAAA",
] as const;

/** One small change. */
function spoiltOnce(bytes: Buffer, dice: Dice, other: Buffer): Buffer {
  const at = dice.below(bytes.length + 1);
  const length = Math.min(dice.size(64), bytes.length - at);
  const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)];
  switch (dice.below(8)) {
    case 0: {
      const copy = Buffer.from(bytes);
      copy[at] = (copy[at] ?? 0) ^ (1 << dice.below(8));
      return copy;
    }
    case 1: {
      const copy = Buffer.from(bytes);
      copy[at] = dice.pick(edgeBytes);
      return copy;
    }
    case 2:
      return Buffer.concat([before, dice.bytes(dice.size(64)), after]);
    case 3:
      return Buffer.concat([before, after.subarray(length)]);
    case 4:
      return Buffer.concat([before, after.subarray(0, length), after]);
    case 5:
      return before;
    case 6:
      return Buffer.concat([before, Buffer.alloc(dice.size(300), dice.pick(edgeBytes)), after]);
    default:
      return Buffer.concat([before, other.subarray(dice.below(other.length + 1))]);
  }
}

/** `other`: another valid input, whose end it may get. */
export function spoilt(bytes: Buffer, dice: Dice, other: Buffer = bytes): Buffer {
  let all = bytes;
  for (let left = dice.size(5); left > 0; left -= 1) all = spoiltOnce(all, dice, other);
  return all;
}

export function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

interface Field {
  readonly tag: number;
  /** With the length where there is one. */
  readonly head: Buffer;
  readonly value: Buffer;
}

/** A message's fields; undefined where the bytes are none. */
function fieldsOf(bytes: Buffer): Field[] | undefined {
  const fields: Field[] = [];
  let at = 0;
  const number = (): number | undefined => {
    let value = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = bytes[at++];
      if (byte === undefined) return undefined;
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
    return undefined;
  };
  while (at < bytes.length) {
    const from = at;
    const tag = number();
    if (tag === undefined || tag < 8) return undefined;
    const type = tag & 7;
    let valueFrom = at;
    if (type === 0) {
      if (number() === undefined) return undefined;
    } else if (type === 2) {
      const length = number();
      if (length === undefined) return undefined;
      valueFrom = at;
      at += length;
    } else return undefined;
    if (at > bytes.length) return undefined;
    fields.push({
      tag,
      head: bytes.subarray(from, valueFrom),
      value: bytes.subarray(valueFrom, at),
    });
  }
  return fields;
}

const written = ({ head, value }: Field): Buffer => Buffer.concat([head, value]);

const lengthed = (tag: number, value: Buffer): Buffer =>
  Buffer.concat([varint(BigInt(tag)), varint(BigInt(value.length)), value]);

function spoiltField(field: Field, dice: Dice, depth: number): Buffer {
  const { tag, value } = field;
  const whole = written(field);
  switch (dice.below(7)) {
    case 0:
      return Buffer.alloc(0);
    case 1:
      return Buffer.concat([whole, whole]);
    case 2:
      return Buffer.concat([varint(BigInt((tag & ~7) | dice.below(8))), value]);
    case 3:
      return Buffer.concat([varint(dice.pick(edgeNumbers)), whole]);
    case 4:
      return Buffer.concat([varint(BigInt(tag)), varint(dice.pick(edgeNumbers)), value]);
    default: {
      if ((tag & 7) === 0)
        return Buffer.concat([varint(BigInt(tag)), varint(dice.pick(edgeNumbers))]);
      const inner = value.length > 0 && depth < 6 ? fieldsOf(value) : undefined;
      if (inner !== undefined && dice.chance(0.7))
        return lengthed(tag, spoiltMessage(value, dice, depth + 1));
      return lengthed(
        tag,
        dice.chance(0.5) ? Buffer.from(dice.pick(edgeTexts)) : spoilt(value, dice),
      );
    }
  }
}

/** A Protobuf message of which one field is not what it was, at any depth. */
export function spoiltMessage(bytes: Buffer, dice: Dice, depth = 0): Buffer {
  const fields = fieldsOf(bytes);
  if (fields === undefined || fields.length === 0) return spoilt(bytes, dice);
  const at = dice.below(fields.length);
  const parts = fields.map((field, index) =>
    index === at ? spoiltField(field, dice, depth) : written(field),
  );
  if (dice.chance(0.1)) parts.reverse();
  return Buffer.concat(parts);
}

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

function oddJson(dice: Dice): Json {
  switch (dice.below(7)) {
    case 0:
      return dice.pick(edgeTexts);
    case 1:
      return Number(dice.pick(edgeNumbers));
    case 2:
      return -1;
    case 3:
      return null;
    case 4:
      return dice.chance(0.5);
    case 5: {
      let deep: Json = [];
      for (let left = dice.size(2_000); left > 0; left -= 1) deep = [deep];
      return deep;
    }
    default:
      return { [dice.pick(edgeTexts)]: dice.pick(edgeTexts) };
  }
}

/** A JSON value of which one part is not what it was. */
export function spoiltJson(value: Json, dice: Dice): Json {
  if (value === null || typeof value !== "object" || dice.chance(0.1)) return oddJson(dice);
  const entries = Object.entries(value);
  const [key, inner] = dice.pick(entries) ?? ["", null];
  if (Array.isArray(value))
    return value.map((one: Json, at) => (String(at) === key ? spoiltJson(one, dice) : one));
  if (dice.chance(0.2)) return { ...value, [dice.pick(edgeTexts)]: oddJson(dice) };
  return { ...value, [key]: spoiltJson(inner, dice) };
}
