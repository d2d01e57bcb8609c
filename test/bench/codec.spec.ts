/** The hand-written codec against the generated one. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import assert from "node:assert/strict";
import {
  bytesField,
  clientField,
  FrameWriter,
  markedText,
  putHex,
  sendTemplate,
  takeHex,
  varintField,
} from "../../bench/codec.ts";
import { FrameReader, syncAnswer, type ServerFrames } from "../../bench/frames.ts";
import { ClientBatchSchema, ServerBatchSchema } from "../../proto/gen/parley/v1/frame_pb.ts";
import { SyncResponseSchema } from "../../proto/gen/parley/v1/chat_pb.ts";

/** What a masked WebSocket message with a mask of zeros carries. */
function payloadOf(message: Buffer): Buffer {
  assert.equal(message[0], 0x82);
  const short = (message[1] ?? 0) & 127;
  const head = short < 126 ? 2 : short === 126 ? 4 : 10;
  const length =
    short < 126
      ? short
      : short === 126
        ? message.readUInt16BE(2)
        : Number(message.readBigUInt64BE(2));
  assert.equal(message.readUInt32BE(head), 0, "the mask");
  assert.equal(message.length, head + 4 + length);
  return message.subarray(head + 4);
}

const uint32 = fc.integer({ min: 1, max: 0xffff_ffff });

describe("bench: codec", () => {
  it("writes sends and cursors that the generated code reads", () => {
    fc.assert(
      fc.property(
        uint32,
        uint32,
        fc.nat(),
        fc.integer({ min: 24, max: 70_000 }),
        (id, n, head, size) => {
          const writer = new FrameWriter();
          const prefix = Buffer.alloc(12, 7);
          const template = sendTemplate({ conversation: "d:a:b" }, prefix, markedText(3, 4, size));
          writer.send(template, id, n, head);
          writer.moveCursor(id, Buffer.from("d:a:b"), n);
          const { frames } = fromBinary(
            ClientBatchSchema,
            payloadOf(writer.take() ?? Buffer.alloc(0)),
          );
          const [send, cursor] = frames;
          assert.equal(send?.requestId, id);
          assert.ok(send.frame.case === "send");
          assert.deepEqual(send.frame.value.to, { case: "conversationId", value: "d:a:b" });
          assert.equal(Buffer.from(send.frame.value.clientId).readUInt32BE(12), n);
          assert.equal(send.frame.value.knownHeadSeq, head);
          const text = Buffer.from(send.frame.value.content?.text ?? "");
          assert.equal(text.length, size);
          assert.deepEqual([takeHex(text, 0), takeHex(text, 8), takeHex(text, 16)], [3, 4, n]);
          assert.ok(cursor?.frame.case === "moveCursor");
          assert.equal(cursor.frame.value.conversationId, "d:a:b");
          assert.equal(cursor.frame.value.deliveredSeq, n);
        },
      ),
    );
  });

  it("writes rare frames, and nothing where nothing was written", () => {
    const writer = new FrameWriter();
    writer.frame(7, clientField.hello, Buffer.concat([bytesField(1, "jwt"), varintField(4, 300)]));
    const [hello] = fromBinary(
      ClientBatchSchema,
      payloadOf(writer.take() ?? Buffer.alloc(0)),
    ).frames;
    assert.ok(hello?.frame.case === "hello");
    assert.equal(hello.frame.value.token, "jwt");
    assert.equal(hello.frame.value.recordsPerConversation, 300);
    assert.equal(writer.take(), undefined);
  });

  it("reads what the generated code writes", () => {
    const told: unknown[] = [];
    const frames: ServerFrames = {
      sent: (...it) => told.push(["sent", ...it]),
      record: (bytes, seq, start, end) =>
        told.push(["record", seq, bytes.toString("utf8", start, end)]),
      cursor: (seq) => told.push(["cursor", seq]),
      resync: () => told.push(["resync"]),
      heartbeat: () => told.push(["heartbeat"]),
      goodbye: (reason) => told.push(["goodbye", reason]),
      other: (id, field, _, start, end) => told.push(["other", id, field, end - start]),
    };
    const content = { text: "hello", attachments: [{ mediaId: "m" }], replyToSeq: 2 };
    const record = { conversationId: "d:a:b", seq: 300, senderId: "a", timeMs: 1_700_000_000_000n };
    const batch = create(ServerBatchSchema, {
      frames: [
        {
          requestId: 9,
          frame: { case: "send", value: { conversationId: "c", seq: 70_000, duplicate: true } },
        },
        {
          frame: {
            case: "pushed",
            value: {
              records: [
                { ...record, ordinal: 1, body: { case: "message", value: content } },
                { ...record, seq: 301, body: { case: "membership", value: { added: ["x"] } } },
              ],
              cursors: [
                { conversationId: "d:a:b", userId: "b", deliveredSeq: 4_000_000_000, readSeq: 1 },
              ],
              presences: [{ userId: "b", lastSeenMs: 5n }],
              resync: true,
            },
          },
        },
        { frame: { case: "heartbeat", value: { headSum: 2n ** 60n } } },
        { requestId: 3, frame: { case: "moveCursor", value: {} } },
        { requestId: 4, frame: { case: "failure", value: { code: 3, message: "no" } } },
        { frame: { case: "goodbye", value: { reason: 2, reconnectAfterMs: 9 } } },
      ],
    });
    const bytes = Buffer.concat([Buffer.from("xx"), toBinary(ServerBatchSchema, batch)]);
    const reader = new FrameReader();
    reader.batch(bytes, 2, bytes.length, frames);
    assert.deepEqual(told, [
      ["sent", 9, 70_000, true],
      ["record", 300, "hello"],
      ["record", 301, ""],
      ["cursor", 4_000_000_000],
      ["resync"],
      ["heartbeat"],
      ["other", 4, 3, 6],
      ["goodbye", 2],
    ]);
  });

  it("refuses a field that passes the end of its message", () => {
    const reader = new FrameReader();
    const nobody: ServerFrames = {
      sent: () => undefined,
      record: () => undefined,
      cursor: () => undefined,
      resync: () => undefined,
      heartbeat: () => undefined,
      goodbye: () => undefined,
      other: () => undefined,
    };
    assert.throws(() => reader.batch(Buffer.from([10, 5, 8, 1]), 0, 4, nobody), /passes the end/);
  });

  it("reads the heads and the token of a sync", () => {
    const conversations = [1, 2].map((n) => ({
      conversation: { conversationId: `c${n}`, headSeq: n * 1000, title: "t", headTimeMs: 7n },
      records: [{ seq: n }],
    }));
    const message = create(SyncResponseSchema, {
      conversations,
      token: Buffer.from("tok"),
      complete: true,
    });
    const answer = syncAnswer(Buffer.from(toBinary(SyncResponseSchema, message)));
    assert.deepEqual(
      [...answer.heads],
      [
        ["c1", 1000],
        ["c2", 2000],
      ],
    );
    assert.equal(answer.token.toString(), "tok");
    assert.equal(answer.complete, true);
  });

  it("round-trips its hexadecimal numbers", () => {
    const bytes = Buffer.alloc(8);
    fc.assert(
      fc.property(uint32, (n) => {
        putHex(bytes, 0, n);
        assert.equal(bytes.toString(), n.toString(16).padStart(8, "0"));
        assert.equal(takeHex(bytes, 0), n);
      }),
    );
  });
});
