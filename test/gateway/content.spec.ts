/** What a message may say: the check on bytes agrees with what protobuf-es reads, and keeps nothing that nobody knows. */
import assert from "node:assert/strict";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { checkContent } from "../../gateway/content.ts";
import { ContentSchema } from "../../proto/gen/parley/v1/record_pb.ts";

const encoded = (text: string, replyToSeq = 0): Buffer =>
  Buffer.from(toBinary(ContentSchema, create(ContentSchema, { text, replyToSeq })));
const refuses = (bytes: Buffer, message: RegExp): void =>
  assert.throws(
    () => checkContent(bytes),
    (error: unknown) =>
      error instanceof ConnectError &&
      error.code === Code.InvalidArgument &&
      message.test(error.rawMessage),
  );

describe("content", () => {
  it("of text alone is kept byte for byte", () => {
    const text = fc.string({ unit: "grapheme", minLength: 1, maxLength: 100 });
    fc.assert(
      fc.property(text, fc.nat({ max: 0xffff_ffff }), (said, replyToSeq) => {
        const bytes = encoded(said, replyToSeq);
        const checked = checkContent(bytes);
        assert.equal(checked.bytes, bytes);
        assert.deepEqual([checked.replyToSeq, checked.attachments], [replyToSeq, 0]);
      }),
    );
  });

  it("has at most 16 KiB of text, counted in bytes", () => {
    checkContent(encoded("x".repeat(16_384)));
    checkContent(encoded("é".repeat(8_192)));
    refuses(encoded("x".repeat(16_385)), /16385 bytes/);
    refuses(encoded("é".repeat(8_193)), /16386 bytes/);
  });

  it("loses fields that nobody knows, and what was said twice is said once", () => {
    const unknown = Buffer.from([0xa2, 0x06, 3, 1, 2, 3]);
    for (const bytes of [
      Buffer.concat([encoded("hi", 4), unknown]),
      Buffer.concat([encoded("ho", 9), encoded("hi", 4)]),
    ]) {
      const checked = checkContent(bytes);
      assert.deepEqual(Buffer.from(checked.bytes), encoded("hi", 4));
      assert.equal(checked.replyToSeq, 4);
    }
  });

  it("that says nothing, is no text or is no message is refused", () => {
    assert.throws(() => checkContent(undefined), ConnectError);
    refuses(Buffer.alloc(0), /empty/);
    refuses(encoded("", 5), /empty/);
    refuses(Buffer.from([0x0a, 2, 0xc3, 0x28]), /UTF-8/);
    refuses(Buffer.from([0x0a, 9, 0x61]), /cannot be read/);
    refuses(Buffer.from([0x08, 1]), /cannot be read/);
  });

  it("of any bytes is refused or readable", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (any) => {
        let checked;
        try {
          checked = checkContent(Buffer.from(any));
        } catch (error) {
          if (error instanceof ConnectError) return;
          throw error;
        }
        if (checked.attachments === 0) fromBinary(ContentSchema, checked.bytes);
      }),
      { numRuns: 2_000 },
    );
  });
});
