/** Sends that come twice, against a map of all of them. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { RecentSends } from "../../delivery/recent.ts";

/** Few different bytes, so that ids are alike in parts. */
const clientId = fc
  .tuple(fc.nat(2), fc.nat(2), fc.nat(2), fc.nat(2))
  .map((parts) => Uint8Array.from(parts.flatMap((part) => [0x80 * part, 0, 0, part])));
const send = fc.record({ senderId: fc.constantFrom("alice", "bob"), clientId });

describe("the sends that a conversation took last", () => {
  it("are found by sender and client_id, the last 64 and all that are not committed (P2)", () => {
    const steps = fc.array(fc.oneof(send, fc.nat(300)), { maxLength: 400 });
    fc.assert(
      fc.property(steps, (all) => {
        const recent = new RecentSends();
        const model = new Map<string, number>();
        let seq = 0;
        let committedSeq = 0;
        for (const step of all) {
          if (typeof step === "number") {
            committedSeq = Math.max(committedSeq, seq - step);
            recent.forget(committedSeq);
            continue;
          }
          const key = `${step.senderId} ${Buffer.from(step.clientId).toString("hex")}`;
          const place = recent.find(step.senderId, step.clientId);
          const found = place?.seq;
          const known = model.get(key);
          if (place !== undefined) assert.equal(place.timeMs, 1_000 + place.seq);
          if (found !== undefined) assert.equal(found, known);
          else if (known !== undefined) assert.ok(known <= committedSeq && known <= seq - 64);
          if (found !== undefined) continue;
          seq += 1;
          recent.add(step.senderId, step.clientId, seq, 1_000 + seq);
          model.set(key, seq);
        }
      }),
    );
  });

  it("are 64 once they are committed", () => {
    const recent = new RecentSends();
    const idOf = (n: number): Uint8Array => Buffer.from(String(n).padStart(16, "0"));
    for (let seq = 1; seq <= 1_000; seq += 1) {
      recent.add("alice", idOf(seq), seq, 0);
      recent.forget(seq);
    }
    const found = Array.from({ length: 1_000 }, (_, n) => recent.find("alice", idOf(n + 1)));
    const count = found.filter((place) => place !== undefined).length;
    assert.ok(count === 64, `${count} are remembered`);
    assert.equal(found.at(-1)?.seq, 1_000);
  });

  it("are more while sends come again, and 64 later; each that goes is told (P2)", () => {
    const recent = new RecentSends();
    const idOf = (n: number): Uint8Array => Buffer.from(String(n).padStart(16, "0"));
    let forgottenSeq = 0;
    for (let seq = 1; seq <= 3_000; seq += 1) {
      if (seq < 1_500) recent.retried();
      recent.add("alice", idOf(seq), seq, 0);
      forgottenSeq = Math.max(forgottenSeq, recent.forget(seq));
      if (forgottenSeq > 0) assert.equal(recent.find("alice", idOf(forgottenSeq)), undefined);
      assert.equal(recent.find("alice", idOf(forgottenSeq + 1))?.seq, forgottenSeq + 1);
      if (seq === 1_500) assert.ok(seq - forgottenSeq >= 500, `${seq - forgottenSeq} are kept`);
    }
    assert.equal(3_000 - forgottenSeq, 64);
  });
});
