import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import fc from "fast-check";
import { Outbox, type Outgoing, type TakeView } from "../../client/outbox.ts";
import { SendRequestSchema, type SendRequest } from "../../proto/gen/parley/v1/chat_pb.ts";

const limits = { messagesMax: 100, bytesMax: 100_000, underWayMax: 4 };
const keyOf = (request: SendRequest): string => request.to.value ?? "";
const ordered: TakeView = { ordered: true, keyOf, headOf: () => 7 };
const unordered: TakeView = { ...ordered, ordered: false };
const busy = { code: Code.ResourceExhausted, retryAfterMs: 100 };

function request(conversation: string, text = "x"): SendRequest {
  return create(SendRequestSchema, {
    to: { case: "conversationId", value: conversation },
    clientId: new Uint8Array(16),
    content: { text },
  });
}

function filled(...names: string[]): Outbox {
  const outbox = new Outbox(limits);
  for (const name of names) assert.ok(outbox.add(name, request(name.slice(0, 1))));
  return outbox;
}

const ids = (entries: Outgoing[]): string => entries.map((entry) => entry.clientId).join(" ");

function refuse(outbox: Outbox, name: string, failure = busy, nowMs = 0): string {
  const attempt = outbox.get(name)?.attempt ?? 0;
  return outbox.refused(name, attempt, failure, nowMs, () => failure.retryAfterMs, keyOf);
}

describe("the outbox", () => {
  it("sends in order, up to its window", () => {
    const outbox = filled("a1", "a2", "b1", "a3", "b2");
    assert.equal(ids(outbox.take(0, ordered)), "a1 a2 b1 a3");
    assert.equal(ids(outbox.take(0, ordered)), "");
    outbox.remove("a1");
    assert.equal(ids(outbox.take(0, ordered)), "b2");
  });

  it("sends one at a time for each conversation where the link keeps no order (P4)", () => {
    const outbox = filled("a1", "a2", "b1");
    assert.equal(ids(outbox.take(0, unordered)), "a1 b1");
    assert.equal(ids(outbox.take(0, unordered)), "");
    outbox.remove("a1");
    assert.equal(ids(outbox.take(0, unordered)), "a2");
  });

  it("keeps the head of the first try, and says retry from the second on (P2)", () => {
    const outbox = filled("a1");
    const [first] = outbox.take(0, ordered);
    assert.deepEqual([first?.request.knownHeadSeq, first?.request.retry], [7, false]);
    outbox.linkDown();
    const [second] = outbox.take(0, { ...ordered, headOf: () => 99 });
    assert.deepEqual([second?.request.knownHeadSeq, second?.request.retry], [7, true]);
  });

  it("sends again, in order, what is behind a refused message (P4)", () => {
    const outbox = filled("a1", "a2", "b1", "a3");
    outbox.take(0, ordered);
    assert.equal(refuse(outbox, "a1"), "again");
    assert.equal(refuse(outbox, "a2"), "stale", "a1 decides");
    assert.equal(ids(outbox.take(50, ordered)), "");
    assert.equal(outbox.nextMs(50), 100);
    outbox.remove("a3");
    assert.equal(ids(outbox.take(100, ordered)), "a1 a2", "b1 is under way still");
  });

  it("has one try of a message under way: what is behind a refused one waits for its own to end (P4)", () => {
    const outbox = filled("a1", "a2", "a3", "a4");
    outbox.take(0, ordered);
    assert.equal(refuse(outbox, "a1"), "again");
    outbox.add("a5", request("a"));
    assert.equal(ids(outbox.take(100, ordered)), "a1");
    assert.equal(refuse(outbox, "a2", { code: Code.NotFound, retryAfterMs: 0 }), "final");
    assert.equal(ids(outbox.take(100, ordered)), "");
    refuse(outbox, "a4");
    assert.equal(ids(outbox.take(100, ordered)), "", "a3 has no outcome yet");
    refuse(outbox, "a3");
    assert.equal(ids(outbox.take(100, ordered)), "a3 a4 a5");
    outbox.linkDown();
    assert.equal(ids(outbox.take(100, ordered)), "a1 a3 a4 a5");
  });

  it("takes a refusal for good as such, and one that may pass as that", () => {
    const fates = (code: Code, retryAfterMs = 0): string => {
      const outbox = filled("a1");
      outbox.take(0, ordered);
      return refuse(outbox, "a1", { code, retryAfterMs });
    };
    for (const code of [Code.InvalidArgument, Code.NotFound, Code.PermissionDenied]) {
      assert.equal(fates(code), "final");
    }
    for (const code of [Code.ResourceExhausted, Code.Unavailable, Code.Unauthenticated]) {
      assert.equal(fates(code), "again");
    }
    assert.equal(fates(Code.FailedPrecondition, 50), "again", "the server says when");
  });

  it("gives up on a server error that does not pass", () => {
    const outbox = filled("a1");
    const fates = Array.from({ length: 5 }, () => {
      outbox.take(0, ordered);
      return refuse(outbox, "a1", { code: Code.Internal, retryAfterMs: 0 });
    });
    assert.deepEqual(fates, ["again", "again", "again", "again", "final"]);
  });

  it("is bounded by number and by bytes", () => {
    const few = new Outbox({ ...limits, messagesMax: 2 });
    assert.ok(few.add("a1", request("a")) && few.add("a2", request("a")));
    assert.equal(few.add("a3", request("a")), undefined);
    few.remove("a1");
    assert.ok(few.add("a3", request("a")));
    const small = new Outbox({ ...limits, bytesMax: 1_000 });
    assert.equal(small.add("a1", request("a", "x".repeat(1_000))), undefined);
  });

  it("puts what a store had before what was added since, as retries", () => {
    const outbox = filled("a9");
    outbox.restore([
      { clientId: "a1", order: 3, request: request("a") },
      { clientId: "a2", order: 4, request: request("a") },
    ]);
    const taken = outbox.take(0, ordered);
    assert.equal(ids(taken), "a1 a2 a9");
    assert.deepEqual(
      taken.map((entry) => entry.request.retry),
      [true, true, false],
    );
    assert.deepEqual(
      taken.map((entry) => entry.order),
      [3, 4, 5],
    );
  });

  it("keeps each conversation's order over a server that refuses at random (P2, P4)", () => {
    const property = fc.property(
      fc.array(fc.constantFrom("a", "b"), { minLength: 1, maxLength: 20 }),
      fc.array(fc.boolean(), { minLength: 200, maxLength: 200 }),
      fc.boolean(),
      (conversations, chances, inOrder) => {
        const outbox = new Outbox(limits);
        conversations.forEach((name, place) => outbox.add(`${name}${place}`, request(name)));
        const view = inOrder ? ordered : unordered;
        const made: string[] = [];
        let nowMs = 0;
        for (let rounds = 0; outbox.size > 0 && rounds < 100; rounds++) {
          // A server that refuses one refuses what is behind it in this batch, as one that is full does.
          const refusing = new Set<string>();
          for (const entry of outbox.take(nowMs, view)) {
            const conversation = keyOf(entry.request);
            if (chances.pop()) refusing.add(conversation);
            if (refusing.has(conversation)) refuse(outbox, entry.clientId, busy, nowMs);
            else {
              made.push(entry.clientId);
              outbox.remove(entry.clientId);
            }
          }
          if (chances.length < 50) chances = Array.from({ length: 200 }, () => false);
          nowMs += 100;
        }
        assert.equal(outbox.size, 0);
        for (const name of ["a", "b"]) {
          const places = made.filter((one) => one.startsWith(name)).map((one) => +one.slice(1));
          assert.deepEqual(
            places,
            places.toSorted((one, other) => one - other),
          );
        }
      },
    );
    fc.assert(property, { numRuns: 200 });
  });
});
