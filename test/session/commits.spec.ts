import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import fc from "fast-check";
import { AttachmentSchema } from "../../proto/gen/parley/session/v1/session_pb.ts";
import type { OpenCommits } from "../../session/commits.ts";
import type { Gateway } from "../../session/registry.ts";
import { Registry } from "../../session/registry.ts";

const nothing = { open: 0, attached: 0 };

describe("session commits", () => {
  let registry: Registry;
  let gateway: Gateway;
  let publisher: OpenCommits;

  beforeEach(() => {
    registry = new Registry({ userSessionsMax: 100 });
    gateway = registry.open("g1", "b1", { tell: () => true, cut: () => undefined });
    publisher = registry.commits.begin();
  });

  const attach = (connection: number, userId: string): void =>
    registry.attach(gateway, create(AttachmentSchema, { connection, userId }));
  const missed = (commit: bigint, by = publisher): number[] =>
    by.indexed(commit).map(({ connection }) => connection);

  it("names those of a commit's users that attached while it was open (P6)", () => {
    attach(1, "ann");
    publisher.passed(1n, ["ann", "bob"]);
    attach(2, "ann");
    attach(3, "eve");
    publisher.passed(1n, ["joe"]);
    attach(4, "joe");
    publisher.passed(2n, ["ann", "eve"]);
    attach(5, "ann");
    assert.deepEqual(missed(1n), [2, 4, 5]);
    assert.deepEqual(missed(2n), [5]);
    assert.deepEqual(missed(2n), [], "it is not open any more");
    assert.deepEqual(registry.commits.size, nothing);
  });

  it("names nobody who is gone, also when its number is used again", () => {
    publisher.passed(1n, ["ann"]);
    attach(1, "ann");
    attach(2, "ann");
    registry.detach(gateway, 1);
    registry.detach(gateway, 2);
    attach(2, "eve");
    assert.deepEqual(missed(1n), []);
  });

  it("keeps the commits of publishers apart, and none of one that ended", () => {
    const other = registry.commits.begin();
    publisher.passed(1n, ["ann"]);
    other.passed(1n, ["bob"]);
    attach(1, "ann");
    attach(2, "bob");
    other.end();
    assert.deepEqual(missed(1n, other), []);
    assert.deepEqual(registry.commits.size, { open: 1, attached: 2 });
    assert.deepEqual(missed(1n), [1]);
    assert.deepEqual(registry.commits.size, nothing);
  });

  it("remembers nobody while no commit is open, and nobody from before the oldest that is (P9)", () => {
    attach(1, "ann");
    assert.deepEqual(registry.commits.size, nothing);
    publisher.passed(1n, ["ann"]);
    for (let connection = 2; connection < 12; connection += 1) attach(connection, "ann");
    publisher.passed(2n, ["ann"]);
    attach(12, "ann");
    publisher.indexed(1n);
    assert.deepEqual(registry.commits.size, { open: 1, attached: 1 });
  });

  it("remembers no more than twice those that are there, however long a commit is open (P9)", () => {
    publisher.passed(1n, ["ann"]);
    for (let connection = 0; connection < 20_000; connection += 1) {
      attach(connection, "ann");
      if (connection >= 10) registry.detach(gateway, connection - 10);
    }
    assert.ok(registry.commits.size.attached <= 1_024);
    assert.equal(missed(1n).length, 10);
  });

  it("takes a bounded number of publications that are not indexed (P9)", () => {
    const bounded = registry.commits.begin(3);
    for (const commit of [1n, 1n, 2n]) bounded.passed(commit, ["ann"]);
    assert.throws(() => bounded.passed(3n, ["ann"]), { code: Code.ResourceExhausted });
    bounded.indexed(1n);
    bounded.passed(3n, ["ann"]);
    bounded.passed(3n, ["bob"]);
    assert.throws(() => bounded.passed(3n, ["ann"]), { code: Code.ResourceExhausted });
    bounded.end();
    assert.deepEqual(registry.commits.size, nothing);
  });

  it("names exactly those that a plain list of all that happened would, in whatever order (P6)", () => {
    const step = fc.record({
      what: fc.constantFrom("attach", "detach", "pass", "pass", "index"),
      number: fc.integer({ min: 1, max: 4 }),
      userId: fc.constantFrom("ann", "bob"),
      by: fc.constantFrom(0, 1),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const tested = new Registry({ userSessionsMax: 100 });
        const one = tested.open("g", "b", { tell: () => true, cut: () => undefined });
        const publishers = [tested.commits.begin(), tested.commits.begin()];
        const attachedAt = new Map<number, { userId: string; at: number }>();
        const passed = new Map<string, { at: number; users: Set<string> }>();
        for (const [at, { what, number, userId, by }] of steps.entries()) {
          const name = `${by} ${number}`;
          if (what === "attach" && !attachedAt.has(number)) {
            attachedAt.set(number, { userId, at });
            tested.attach(one, create(AttachmentSchema, { connection: number, userId }));
          } else if (what === "detach") {
            attachedAt.delete(number);
            tested.detach(one, number);
          } else if (what === "pass") {
            const open = passed.get(name) ?? { at, users: new Set<string>() };
            open.users.add(userId);
            passed.set(name, open);
            publishers[by]?.passed(BigInt(number), [userId]);
          } else if (what === "index") {
            const open = passed.get(name);
            passed.delete(name);
            const expected = [...attachedAt].filter(
              ([, session]) =>
                open !== undefined && session.at > open.at && open.users.has(session.userId),
            );
            const told = publishers[by]?.indexed(BigInt(number)) ?? [];
            assert.deepEqual(
              told.map(({ connection }) => connection),
              expected.map(([connection]) => connection),
            );
          }
        }
        for (const one of publishers) one.end();
        assert.deepEqual(tested.commits.size, nothing);
      }),
    );
  });
});
