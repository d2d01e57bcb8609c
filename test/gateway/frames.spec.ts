/** The hand-written wire format against protobuf-es: the same for what is valid, an error and never harm for anything else. */
import assert from "node:assert/strict";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import {
  FrameWriter,
  frameKinds,
  readBatch,
  readMove,
  readSend,
  isSentBy,
} from "../../gateway/frames.ts";
import type { InFrame } from "../../gateway/frames.ts";
import { ProtocolError } from "../../gateway/wire.ts";
import { MoveCursorRequestSchema, SendRequestSchema } from "../../proto/gen/parley/v1/chat_pb.ts";
import {
  ClientBatchSchema,
  ClientFrameSchema,
  ServerBatchSchema,
} from "../../proto/gen/parley/v1/frame_pb.ts";
import type { ServerFrame } from "../../proto/gen/parley/v1/frame_pb.ts";
import { ContentSchema, CursorSchema, RecordSchema } from "../../proto/gen/parley/v1/record_pb.ts";

const uint32 = fc.nat({ max: 0xffff_ffff });
const bytes = (maxLength = 40) => fc.uint8Array({ maxLength });
const text = fc.string({ unit: "grapheme", maxLength: 30 });

const send = fc.record({
  to: fc.oneof(
    fc.record({ case: fc.constant("conversationId" as const), value: text }),
    fc.record({ case: fc.constant("userId" as const), value: text }),
    fc.constant({ case: undefined }),
  ),
  clientId: bytes(20),
  content: fc.option(fc.record({ text, replyToSeq: uint32 }), { nil: undefined }),
  knownHeadSeq: uint32,
  retry: fc.boolean(),
});
const move = fc.record({ conversationId: text, deliveredSeq: uint32, readSeq: uint32 });

type FrameInit = MessageInitShape<typeof ClientFrameSchema>["frame"];
const frame = fc.oneof(
  send.map((value): FrameInit => ({ case: "send", value })),
  move.map((value): FrameInit => ({ case: "moveCursor", value })),
  fc
    .record({ token: text, deviceId: text, syncToken: bytes() })
    .map((value): FrameInit => ({ case: "hello", value })),
  move.map(({ conversationId }): FrameInit => ({ case: "setTyping", value: { conversationId } })),
  fc.constant<FrameInit>({ case: "heartbeatReply", value: {} }),
);
const batch = fc
  .array(fc.record({ requestId: uint32, frame }), { minLength: 1, maxLength: 8 })
  .map((frames) => create(ClientBatchSchema, { frames: frames.map(frameOf) }));

function frameOf({ requestId, frame: made }: { requestId: number; frame: FrameInit }) {
  return create(ClientFrameSchema, made === undefined ? { requestId } : { requestId, frame: made });
}

const kindNames = new Map<number, string>(Object.entries(frameKinds).map(([k, v]) => [v, k]));

const payload = ({ bytes: all, start, end }: InFrame) => all.subarray(start, end);

/** A frame as both readers should see it. */
function seen(one: InFrame): unknown {
  if (one.kind === frameKinds.send) {
    const { clientId, content, ...rest } = readSend(one);
    return {
      ...rest,
      clientId: [...clientId],
      content: content && fromBinary(ContentSchema, content),
    };
  }
  if (one.kind === frameKinds.moveCursor) return readMove(one);
  return undefined;
}

function expected(all: Buffer, requestIds: number[]): unknown[] {
  return fromBinary(ClientBatchSchema, all).frames.map(
    ({ requestId, frame: { case: kind, value } }) => {
      requestIds.push(requestId);
      if (kind === "send") {
        const { to, clientId, content, knownHeadSeq, retry } = value;
        return {
          conversationId: to.case === "conversationId" ? to.value : "",
          userId: to.case === "userId" ? to.value : "",
          knownHeadSeq,
          retry,
          clientId: [...clientId],
          content,
        };
      }
      if (kind !== "moveCursor") return undefined;
      const { conversationId, deliveredSeq, readSeq } = value;
      return { conversationId, deliveredSeq, readSeq };
    },
  );
}

describe("frames from clients", () => {
  it("are read as protobuf-es reads them", () => {
    fc.assert(
      fc.property(batch, (made) => {
        const all = Buffer.from(toBinary(ClientBatchSchema, made));
        const frames = readBatch(all, 100);
        const ids: number[] = [];
        assert.deepEqual(frames.map(seen), expected(all, ids));
        assert.deepEqual(
          frames.map(({ requestId }) => requestId),
          ids,
        );
        assert.deepEqual(
          frames.map(({ kind }) => kindNames.get(kind)),
          made.frames.map(({ frame: { case: kind } }) => kind),
        );
      }),
    );
  });

  it("given twice, are merged as protobuf-es merges them", () => {
    fc.assert(
      fc.property(fc.array(send, { minLength: 1, maxLength: 4 }), uint32, (sends, requestId) => {
        // One ClientFrame with the field `send` several times.
        const parts = sends.map((value) =>
          toBinary(
            ClientFrameSchema,
            create(ClientFrameSchema, { frame: { case: "send", value } }),
          ),
        );
        const id = toBinary(ClientFrameSchema, create(ClientFrameSchema, { requestId }));
        const inner = Buffer.concat([...parts, id]);
        const one = fromBinary(ClientFrameSchema, inner);
        const head = Buffer.from(
          toBinary(ClientBatchSchema, create(ClientBatchSchema, { frames: [one] })),
        );
        const length: number[] = [];
        for (let rest = inner.length; ; rest >>>= 7) {
          length.push(rest >= 128 ? (rest & 127) | 128 : rest);
          if (rest < 128) break;
        }
        const all = Buffer.concat([Buffer.from([0x0a, ...length]), inner]);
        assert.deepEqual(readBatch(all, 10).map(seen), expected(head, []));
      }),
    );
  });

  it("of which any bytes are an error or a batch, and never more", () => {
    const whole = batch.map((made) => toBinary(ClientBatchSchema, made));
    const spoilt = fc
      .tuple(whole, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 6 }), fc.nat())
      .map(([all, changes, cut]) => {
        const copy = Uint8Array.from(all);
        for (const [at, value] of changes) copy[at % copy.length] = value;
        return cut % 3 === 0 ? copy.subarray(0, cut % copy.length) : copy;
      });
    fc.assert(
      fc.property(fc.oneof(bytes(200), spoilt), (any) => {
        try {
          for (const one of readBatch(Buffer.from(any), 50)) {
            assert.ok(one.start <= one.end && one.end <= one.bytes.length);
            readSend(one);
            readMove(one);
          }
        } catch (error) {
          if (!(error instanceof ProtocolError)) throw error;
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it("skip what they do not know", () => {
    // ClientFrame{request_id: 5, 200: varint, 201: fixed64, 202: "x", 203: fixed32, move_cursor: {}}
    const inner = [0x08, 5, 0xc0, 0x0c, 1, 0xc9, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0xd2, 0x0c, 1, 0x78]
      .concat([0xdd, 0x0c, 0, 0, 0, 0])
      .concat([0x2a, 0]);
    const [one] = readBatch(Buffer.from([0x0a, inner.length, ...inner]), 1);
    assert.deepEqual([one?.requestId, one?.kind], [5, frameKinds.moveCursor]);
  });

  it("are no more than the limit", () => {
    const all = Buffer.from([0x0a, 0, 0x0a, 0, 0x0a, 0]);
    assert.equal(readBatch(all, 3).length, 3);
    assert.throws(() => readBatch(all, 2), /more than 2 frames/);
  });

  for (const [name, inner] of [
    ["a number of 11 bytes", [0x08, ...Array<number>(11).fill(0xff)]],
    ["field 0", [0x00, 0x00]],
    ["a group", [0x0b]],
    ["request_id as text", [0x0a, 1, 0x31]],
    ["send as a number", [0x20, 1]],
    ["a length beyond the end", [0x22, 0xff, 0xff, 0xff, 0xff, 0x0f]],
  ] as const) {
    it(`with ${name} are an error`, () => {
      assert.throws(() => readBatch(Buffer.from([0x0a, inner.length, ...inner]), 1), ProtocolError);
    });
  }

  it("a send's content and client_id are parts of the batch, not copies", () => {
    const made = create(ClientBatchSchema, {
      frames: [
        {
          requestId: 1,
          frame: { case: "send", value: { clientId: new Uint8Array(16), content: { text: "x" } } },
        },
      ],
    });
    const all = Buffer.from(toBinary(ClientBatchSchema, made));
    const [one] = readBatch(all, 1);
    assert.ok(one);
    const { content, clientId } = readSend(one);
    assert.equal(content?.buffer, all.buffer);
    assert.equal(clientId.buffer, all.buffer);
    assert.ok(payload(one).length > 0);
  });
});

describe("frames to clients", () => {
  const writer = new FrameWriter();
  const decode = (...chunks: Buffer[]): ServerFrame[] =>
    fromBinary(ServerBatchSchema, Buffer.concat(chunks)).frames;

  it("are what protobuf-es reads", () => {
    const timeMs = fc.bigInt({ min: 0n, max: 2n ** 53n - 1n });
    fc.assert(
      fc.property(
        uint32,
        text,
        uint32,
        timeMs,
        fc.boolean(),
        (id, conversationId, seq, time, dup) => {
          writer.putSent(id, conversationId, seq, time, dup);
          const [one] = decode(writer.take());
          assert.equal(one?.requestId, id);
          assert.ok(one.frame.case === "send");
          const { $typeName: _, ...value } = one.frame.value;
          assert.deepEqual(value, { conversationId, seq, timeMs: time, duplicate: dup });
        },
      ),
    );
    fc.assert(
      fc.property(uint32, text, text, uint32, uint32, (id, conversationId, userId, d, r) => {
        writer.putMoved(id, conversationId, userId, d, r);
        const [one] = decode(writer.take());
        assert.ok(one?.frame.case === "moveCursor" && one.requestId === id);
        const cursor = create(CursorSchema, {
          conversationId,
          userId,
          deliveredSeq: d,
          readSeq: r,
        });
        assert.deepEqual(one.frame.value.cursor, cursor);
      }),
    );
    fc.assert(
      fc.property(uint32, fc.nat(16), text, uint32, (id, code, message, retryAfterMs) => {
        const [one] = decode(writer.failure(id, code, message, retryAfterMs));
        assert.ok(one?.frame.case === "failure" && one.requestId === id);
        const { $typeName: _, ...value } = one.frame.value;
        assert.deepEqual(value, { code, message, retryAfterMs });
      }),
    );
  });

  it("share one batch, whatever their size", () => {
    const made = [10, 100_000, 20, 3_000_000, 5].map((length, seq) =>
      create(RecordSchema, {
        conversationId: "c",
        seq,
        senderId: "alice",
        body: { case: "message", value: { text: "x".repeat(length) } },
      }),
    );
    const frames = decode(
      ...made.map((one) => writer.record(toBinary(RecordSchema, one))),
      writer.other(3, { case: "setTyping", value: { $typeName: "parley.v1.SetTypingResponse" } }),
    );
    assert.deepEqual(
      frames.flatMap(({ frame: one }) => (one.case === "pushed" ? one.value.records : [])),
      made,
    );
    assert.equal(frames.at(-1)?.requestId, 3);
  });

  it("push cursors", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(text, text, uint32, uint32)), (all) => {
        const cursors = all.map(([conversationId, userId, deliveredSeq, readSeq]) =>
          create(CursorSchema, { conversationId, userId, deliveredSeq, readSeq }),
        );
        const [one] = decode(writer.cursors(cursors));
        assert.ok(one?.frame.case === "pushed");
        assert.deepEqual(one.frame.value.cursors, cursors);
      }),
    );
  });

  it("know a record's sender, and of bytes that are none that there is none", () => {
    const made = create(RecordSchema, { conversationId: "c", seq: 3, senderId: "alice" });
    assert.ok(isSentBy(toBinary(RecordSchema, made), "alice"));
    assert.ok(!isSentBy(toBinary(RecordSchema, made), "alicf"));
    assert.ok(!isSentBy(toBinary(RecordSchema, made), "alic"));
    assert.ok(!isSentBy(new Uint8Array(0), ""));
    assert.ok(!isSentBy(Uint8Array.of(0x61, 0x61, 0x61), "a"));
  });

  it("the two request messages are still the fields that are read by hand", () => {
    assert.deepEqual(
      SendRequestSchema.fields.map(({ name, number }) => [name, number]),
      [
        ["conversation_id", 1],
        ["user_id", 2],
        ["client_id", 3],
        ["content", 4],
        ["known_head_seq", 5],
        ["retry", 6],
      ],
    );
    assert.deepEqual(
      MoveCursorRequestSchema.fields.map(({ name, number }) => [name, number]),
      [
        ["conversation_id", 1],
        ["delivered_seq", 2],
        ["read_seq", 3],
      ],
    );
    assert.deepEqual(
      ClientFrameSchema.fields.map(({ localName, number }) => [localName, number]).slice(1),
      Object.entries(frameKinds),
    );
  });
});
