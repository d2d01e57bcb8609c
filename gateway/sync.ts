/** Sync tokens and what a device lacks by them. Pure: rows of the index and a token in, changed conversations and tokens out. */
import { invalid } from "../mesh/errors.ts";
import { hash32 } from "../mesh/hash.ts";
import { ConversationKind } from "../proto/gen/parley/v1/record_pb.ts";
import type { Conversation } from "../proto/gen/parley/v1/record_pb.ts";
import { Kind } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import type {
  ConversationState,
  IndexRow,
  LeastCursor,
  Member,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";

const format = 1;
const leastLog2 = 4;
const mostLog2 = 10;
/** At most 8 bytes a sum: 53 bits. */
const varintBytesMax = 8;
/** Above so many members the others' cursors are not told along. */
const cursorsToldMax = 256;

/** For each hash bucket the sum of the versions of its conversations. */
export interface Sketch {
  readonly log2: number;
  readonly sums: number[];
}

/** A row with both parts there, as storage always answers. */
export interface KnownRow {
  readonly conversationId: string;
  readonly state: ConversationState;
  readonly member: Member;
}

export function knownRows(rows: readonly IndexRow[]): KnownRow[] {
  const known: KnownRow[] = [];
  for (const { conversationId, state, member } of rows) {
    if (state !== undefined && member !== undefined) known.push({ conversationId, state, member });
  }
  return known;
}

/** The least cursor of all members but this one. */
function leastOfOthers(least: LeastCursor | undefined, row: KnownRow): number {
  if (least === undefined || row.state.memberCount > cursorsToldMax) return 0;
  return least.userId === row.member.userId ? least.secondSeq : least.seq;
}

const headOf = ({ state, member }: KnownRow): number =>
  member.leftSeq > 0 ? member.leftSeq : state.headSeq;

/** Versions stay below it, and so do their sums, which is where numbers are exact. */
const versionsEnd = 2 ** 48;

/**
 * A fingerprint of all that may change in a row for this user. Not a sum of its parts: these grow for the most part, but the others'
 * least cursors are lost when the user leaves or the group outgrows them, and a change must not be made up for by another one.
 */
export function versionOf(row: KnownRow): number {
  const { conversationId, state, member } = row;
  const { leftSeq, deliveredSeq, readSeq } = member;
  const others =
    leftSeq > 0
      ? "left"
      : `${leastOfOthers(state.leastDelivered, row)} ${leastOfOthers(state.leastRead, row)}`;
  const parts = `${headOf(row)} ${deliveredSeq} ${readSeq} ${others} ${conversationId}`;
  return (hash32(`+${parts}`) & 0xffff) * 2 ** 32 + hash32(parts);
}

function kindOf(kind: Kind): ConversationKind {
  switch (kind) {
    case Kind.DIRECT:
      return ConversationKind.DIRECT;
    case Kind.GROUP:
      return ConversationKind.GROUP;
    default:
      return ConversationKind.UNSPECIFIED;
  }
}

/** The conversation as this member sees it. */
export function conversationOf(row: KnownRow): Conversation {
  const { conversationId, state, member } = row;
  const left = member.leftSeq > 0;
  return {
    $typeName: "parley.v1.Conversation",
    conversationId,
    kind: kindOf(state.kind),
    // What the group is called now, and when somebody last wrote, is no longer this user's affair.
    title: left ? "" : state.title,
    headSeq: headOf(row),
    floorSeq: member.floorSeq,
    memberCount: left ? 0 : state.memberCount,
    deliveredSeq: member.deliveredSeq,
    readSeq: member.readSeq,
    unreadCount: left ? 0 : Math.max(0, state.headOrdinal - member.readOrdinal),
    peersDeliveredSeq: left ? 0 : leastOfOthers(state.leastDelivered, row),
    peersReadSeq: left ? 0 : leastOfOthers(state.leastRead, row),
    headTimeMs: left ? 0n : state.headTimeMs,
  };
}

/** How many buckets suit so many conversations. */
function log2For(rows: number): number {
  let log2 = leastLog2;
  while (log2 < mostLog2 && 2 ** log2 < 2 * rows) log2 += 1;
  return log2;
}

function sketchOf(rows: readonly KnownRow[], log2: number): Sketch {
  const sums = new Array<number>(2 ** log2).fill(0);
  for (const row of rows) {
    const bucket = bucketOf(row.conversationId, log2);
    sums[bucket] = ((sums[bucket] ?? 0) + versionOf(row)) % versionsEnd;
  }
  return { log2, sums };
}

const bucketOf = (conversationId: string, log2: number): number =>
  hash32(conversationId) & (2 ** log2 - 1);

export function encodeToken({ log2, sums }: Sketch): Uint8Array {
  const bytes = [format, log2];
  for (const sum of sums) {
    let rest = sum;
    for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
    bytes.push(rest);
  }
  return Uint8Array.from(bytes);
}

/** Undefined for bytes that no gateway gave out. */
export function decodeToken(token: Uint8Array): Sketch | undefined {
  const [first, log2 = 0] = token;
  if (first !== format || log2 < leastLog2 || log2 > mostLog2) return undefined;
  const sums: number[] = [];
  let at = 2;
  while (sums.length < 2 ** log2) {
    let sum = 0;
    for (let place = 0; ; place += 1) {
      const byte = token[at];
      if (byte === undefined || place === varintBytesMax) return undefined;
      at += 1;
      sum += (byte & 0x7f) * 128 ** place;
      if (byte < 128) break;
    }
    if (!Number.isSafeInteger(sum)) return undefined;
    sums.push(sum);
  }
  return at === token.length ? { log2, sums } : undefined;
}

/** The rows that changed, in the buckets that a token is moved on by. */
export interface ChangedBucket {
  readonly bucket: number;
  readonly rows: KnownRow[];
}

/** What a device lacks, and the tokens on the way to having it all. */
export class SyncPlan {
  readonly changed: readonly ChangedBucket[];
  readonly #known: Sketch;
  readonly #now: Sketch;
  readonly #final: Uint8Array;

  /** Throws INVALID_ARGUMENT for a token that is none; an empty one lacks everything. */
  constructor(rows: readonly KnownRow[], token: Uint8Array) {
    const wanted = log2For(rows.length);
    const known = token.length === 0 ? undefined : decodeToken(token);
    if (known === undefined && token.length > 0) {
      throw invalid("this sync token is not known here: sync with an empty token");
    }
    const log2 = known?.log2 ?? wanted;
    this.#now = sketchOf(rows, log2);
    this.#known = { log2, sums: known ? [...known.sums] : this.#now.sums.map(() => 0) };
    this.#final = encodeToken(log2 >= wanted ? this.#now : sketchOf(rows, wanted));
    this.changed = this.#changed(rows, log2);
  }

  #changed(rows: readonly KnownRow[], log2: number): ChangedBucket[] {
    const buckets = new Map<number, KnownRow[]>();
    this.#now.sums.forEach((sum, bucket) => {
      if (sum !== this.#known.sums[bucket]) buckets.set(bucket, []);
    });
    for (const row of rows) buckets.get(bucketOf(row.conversationId, log2))?.push(row);
    return Array.from(buckets, ([bucket, inIt]) => ({ bucket, rows: inIt }));
  }

  /** The token of a device that now has this bucket, too. */
  has(bucket: number): void {
    const sum = this.#now.sums[bucket];
    if (sum !== undefined) this.#known.sums[bucket] = sum;
  }

  partialToken(): Uint8Array {
    return encodeToken(this.#known);
  }

  /** The token of a device that has everything. */
  finalToken(): Uint8Array {
    return this.#final;
  }
}
