import assert from "node:assert/strict";
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { encodeMembership, encodeRecord } from "../../delivery/record.ts";
import {
  ContentSchema,
  MembershipChangeSchema,
  RecordSchema,
} from "../../proto/gen/parley/v1/record_pb.ts";

describe("a record's bytes", () => {
  const id = fc.stringMatching(/^[A-Za-z0-9._@-]{1,128}$/);

  it("are those of protobuf's encoder, whatever is in the message", () => {
    const parts = fc.record({
      conversationId: id,
      senderId: id,
      seq: fc.integer({ min: 1, max: 0xffff_ffff }),
      ordinal: fc.integer({ min: 0, max: 0xffff_ffff }),
      timeMs: fc.integer({ min: 1, max: 8_640_000_000_000_000 }),
      clientId: fc.oneof(
        fc.constant(new Uint8Array()),
        fc.uint8Array({ minLength: 16, maxLength: 16 }),
      ),
      text: fc.string({ maxLength: 400 }),
    });
    fc.assert(
      fc.property(parts, ({ text, ...rest }) => {
        const content = create(ContentSchema, { text });
        const bytes = encodeRecord({
          ...rest,
          kind: "message",
          body: toBinary(ContentSchema, content),
        });
        const record = create(RecordSchema, {
          ...rest,
          timeMs: BigInt(rest.timeMs),
          body: { case: "message", value: content },
        });
        assert.deepEqual(Buffer.from(bytes), Buffer.from(toBinary(RecordSchema, record)));
      }),
    );
  });

  it("are those of protobuf's encoder for a membership change", () => {
    const change = { added: ["bob", "carol"], removed: ["dan"], title: "Lunch" };
    const rest = {
      conversationId: "g:x",
      seq: 300,
      senderId: "alice",
      clientId: new Uint8Array(16),
      timeMs: 5,
      ordinal: 0,
    };
    const bytes = encodeRecord({ ...rest, kind: "membership", body: encodeMembership(change) });
    const record = create(RecordSchema, {
      ...rest,
      timeMs: 5n,
      body: { case: "membership", value: create(MembershipChangeSchema, change) },
    });
    assert.deepEqual(Buffer.from(bytes), Buffer.from(toBinary(RecordSchema, record)));
  });
});
