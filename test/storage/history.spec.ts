/** The rules without a store: merging in any order, the codec there and back, and the scan of records against their real decoder. */
import { create, toBinary } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import fc from "fast-check";
import type { Member } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import {
  CellSchema,
  ConversationStateSchema,
  Kind,
  MediaHeaderSchema,
  MemberSchema,
  PageSchema,
} from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { RecordSchema } from "../../proto/gen/parley/v1/record_pb.ts";
import {
  readCell,
  readMedia,
  readMember,
  readState,
  Reader,
  writeCell,
  writeMedia,
  writeMember,
  writeState,
  Writer,
} from "../../storage/codec.ts";
import { directId } from "../../mesh/ids.ts";
import { mergeMember, pageRange } from "../../storage/history.ts";
import { sendMark } from "../../storage/record.ts";

const uint32 = fc.oneof(fc.nat(300), fc.integer({ min: 0, max: 0xffff_ffff }));
const uint64 = fc.oneof(fc.bigInt(0n, 300n), fc.bigInt(0n, 0xffff_ffff_ffff_ffffn));
const int64 = fc.bigInt(-(1n << 63n), (1n << 63n) - 1n);
const text = fc.oneof(
  fc.string({ maxLength: 300 }),
  fc.string({ unit: "grapheme", maxLength: 200 }),
);
const bytes = fc.uint8Array({ maxLength: 3_000 });
const small = fc.nat(6);

const member = fc
  .record({ floorSeq: small, leftSeq: small, deliveredSeq: small, readSeq: small })
  .map((told) => create(MemberSchema, { userId: "alice", ...told, readOrdinal: told.readSeq }));

const fields = ({ floorSeq, leftSeq, deliveredSeq, readSeq, readOrdinal }: Member): number[] => [
  floorSeq,
  leftSeq,
  deliveredSeq,
  readSeq,
  readOrdinal,
];

describe("the rules of history", () => {
  it("merge a member's changes to the same cursors in any order, and once as twice (P5)", () => {
    fc.assert(
      fc.property(fc.array(member, { minLength: 1, maxLength: 6 }), (changes) => {
        const merged = (all: Member[]): Member =>
          all.reduce((kept, given) => mergeMember(kept, given));
        const forward = merged(changes);
        const cursors = (one: Member): number[] => fields(one).slice(2);
        assert.deepEqual(cursors(merged(changes.toReversed())), cursors(forward));
        assert.deepEqual(fields(mergeMember(forward, forward)), fields(forward));
        for (const change of changes) {
          assert.equal(mergeMember(forward, change), forward);
        }
      }),
    );
  });

  it("give no page beyond what is readable, nor more than was asked", () => {
    const asked = fc.record({ afterSeq: small, beforeSeq: small, limit: small });
    fc.assert(
      fc.property(asked, fc.integer({ min: 1, max: 6 }), small, (page, floorSeq, headSeq) => {
        const [first, last] = pageRange(create(PageSchema, page), { floorSeq, headSeq });
        if (first > last) return;
        assert(first >= floorSeq && last <= headSeq && first > page.afterSeq);
        assert(page.beforeSeq === 0 || last < page.beforeSeq);
        assert(last - first < page.limit);
      }),
    );
  });

  it("name a direct conversation alike from both sides", () => {
    assert.equal(directId("bob", "alice"), "d:alice:bob");
    assert.equal(directId("alice", "bob"), "d:alice:bob");
  });
});

describe("the codec of the embedded store", () => {
  function thereAndBack<T>(
    put: (to: Writer, value: T) => void,
    get: (from: Reader) => T,
    value: T,
  ): void {
    const writer = new Writer(64);
    writer.begin();
    put(writer, value);
    const { length } = writer;
    put(writer, value);
    const reader = new Reader(writer.bytes);
    assert.deepEqual(get(reader), value);
    assert.equal(reader.at, length);
    assert.deepEqual(get(reader), value);
    assert(!reader.more);
    assert.throws(() => get(new Reader(writer.slice(0).subarray(0, length - 1))), /ends too early/);
  }

  const least = fc.option(fc.record({ userId: text, seq: uint32, secondSeq: uint32 }), {
    nil: undefined,
  });

  it("brings back every value as it was, and notices one that was cut", () => {
    const cell = fc.record({
      seq: uint32,
      epoch: uint64,
      term: uint64,
      previousTerm: uint64,
      record: bytes,
    });
    fc.assert(
      fc.property(cell, (told) => {
        const value = create(CellSchema, told);
        const get = (from: Reader): typeof value => {
          const read = readCell(from);
          return create(CellSchema, { ...read, record: Uint8Array.from(read.record) });
        };
        thereAndBack(writeCell, get, value);
      }),
    );
    const numbers = {
      floorSeq: uint32,
      leftSeq: uint32,
      deliveredSeq: uint32,
      readSeq: uint32,
      readOrdinal: uint32,
    };
    fc.assert(
      fc.property(fc.record({ userId: text, ...numbers }), (told) => {
        const { $typeName, userId, ...rest } = create(MemberSchema, told);
        thereAndBack(writeMember, (from) => ({ ...readMember(from) }), {
          $typeName,
          userId,
          ...rest,
        });
      }),
    );
    const plain = {
      kind: fc.constantFrom(Kind.UNSPECIFIED, Kind.DIRECT, Kind.GROUP),
      title: text,
      headSeq: uint32,
      headOrdinal: uint32,
      headTimeMs: int64,
      headTerm: uint64,
      memberCount: uint32,
    };
    const state = fc.record({ ...plain, leastDelivered: least, leastRead: least });
    fc.assert(
      fc.property(state, (told) => {
        const value = create(ConversationStateSchema, told);
        const get = (from: Reader): typeof value => {
          const { leastDelivered, leastRead, ...rest } = readState(from);
          return create(ConversationStateSchema, {
            ...rest,
            ...(leastDelivered === undefined ? {} : { leastDelivered }),
            ...(leastRead === undefined ? {} : { leastRead }),
          });
        };
        thereAndBack(writeState, get, value);
      }),
    );
    const header = fc.record({
      conversationId: text,
      mediaId: text,
      mediaType: text,
      size: uint32,
      width: uint32,
      height: uint32,
      thumbnail: bytes,
    });
    fc.assert(
      fc.property(header, (told) => {
        const get = (from: Reader): ReturnType<typeof readMedia> => {
          const read = readMedia(from);
          return create(MediaHeaderSchema, { ...read, thumbnail: Uint8Array.from(read.thumbnail) });
        };
        thereAndBack(writeMedia, get, create(MediaHeaderSchema, told));
      }),
    );
  });
});

describe("the scan of records", () => {
  it("finds what the decoder finds, and ends on any bytes", () => {
    const record = fc.record({
      conversationId: text,
      seq: uint32,
      senderId: text,
      clientId: bytes,
      timeMs: fc.bigInt(0n, 1n << 53n),
      ordinal: uint32,
    });
    fc.assert(
      fc.property(record, text, (told, said) => {
        const body = { case: "message" as const, value: { text: said } };
        const mark = sendMark(toBinary(RecordSchema, create(RecordSchema, { ...told, body })));
        assert.equal(Buffer.from(mark.senderId).toString(), Buffer.from(told.senderId).toString());
        assert.deepEqual([...mark.clientId], [...told.clientId]);
        assert.equal(mark.timeMs, Number(told.timeMs));
      }),
    );
    fc.assert(fc.property(bytes, (garbage) => void sendMark(garbage)));
  });
});
