/** What a send would overtake that was refused before it, against all refusals remembered for good. */
import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { Refusals } from "../../delivery/refusals.ts";
import { unavailable } from "../../mesh/errors.ts";
import { type Operation, OperationSchema } from "../../proto/gen/parley/delivery/v1/delivery_pb.ts";

const send = (conversationId: string, refusalsSeen: number): Operation =>
  create(OperationSchema, {
    conversationId,
    refusalsSeen,
    operation: { case: "send", value: {} },
  });

describe("what was refused on a stream (P4)", () => {
  it("is remembered for what waits, though what came later had its turn elsewhere", () => {
    const refusals = new Refusals();
    const waits = send("one", 1);
    refusals.waits(waits);
    refusals.given("one", unavailable("the store does not answer"));
    assert.equal(refusals.refusalOf(send("other", 2)), undefined);
    refusals.waited(waits);
    assert.ok(refusals.refusalOf(waits));
    assert.equal(refusals.refusalOf(send("one", 2)), undefined, "it left after the gateway knew");
  });

  it("is refused exactly to what left before the gateway knew, whatever waits where", () => {
    const steps = fc.array(
      fc.record({
        t: fc.constantFrom("comes", "turn", "refused", "seen"),
        conversation: fc.nat(3),
        runs: fc.boolean(),
      }),
      { maxLength: 200 },
    );
    fc.assert(
      fc.property(steps, (all) => {
        const refusals = new Refusals();
        const waiting = ["a", "b", "c", "d"].map((id) => ({ id, sends: [] as Operation[] }));
        const last = new Map<string, number>();
        let [given, seen] = [0, 0];
        const turn = (one: Operation): void => {
          const refused = (last.get(one.conversationId) ?? 0) >= one.refusalsSeen;
          assert.equal(refusals.refusalOf(one) !== undefined, refused);
        };
        for (const { t, conversation, runs } of all) {
          const at = waiting[conversation];
          if (at === undefined) continue;
          if (t === "seen") seen = Math.min(given, seen + 1);
          else if (t === "refused") {
            refusals.given(at.id, unavailable("not now"));
            last.set(at.id, (given += 1));
          } else if (t === "comes") {
            const one = send(at.id, seen + 1);
            if (runs && at.sends.length === 0) turn(one);
            else {
              refusals.waits(one);
              at.sends.push(one);
            }
          } else {
            const one = at.sends.shift();
            if (one === undefined) continue;
            refusals.waited(one);
            turn(one);
          }
        }
      }),
    );
  });
});
