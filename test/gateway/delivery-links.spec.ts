/** The gateway's way to the owners of shards: where operations go, what waits, what comes again. */
import assert from "node:assert/strict";
import { Code, ConnectError } from "@connectrpc/connect";
import { operationsMax } from "../../gateway/delivery-stream.ts";
import { OwnerCalls } from "../../gateway/owner-calls.ts";
import { Asked, Deliveries, conversationOf, notOwner, operationOf } from "./deliveries.ts";
import { numberOf, sendOf, sentAt, settle } from "./deliveries.ts";
import type { Owner } from "./deliveries.ts";
import { refused } from "./world.ts";

const zero = conversationOf(0);
const one = conversationOf(1);
const answersOf = (asked: Asked[]): string[] => asked.map(({ answers }) => answers.join("+"));

function answerAll(owner: Owner, outcome = sentAt(1)): number[] {
  const operations = owner.operations.splice(0);
  for (const operation of operations) owner.settle(operation, outcome);
  return operations.map(numberOf);
}

for (const wire of [false, true]) {
  describe(`links to delivery${wire ? ", by wire" : ""}`, () => {
    let all: Deliveries;
    let left: Owner;
    let right: Owner;

    beforeEach(async () => {
      all = new Deliveries(1, wire);
      left = all.join("left");
      right = all.join("right");
      await settle();
    });
    afterEach(() => all.links.close());

    it("an operation goes to the owner of its shard, and its outcome to whoever waits", async () => {
      all.own(left, 0, 2, 3);
      all.own(right, 1);
      const asked = [all.send(zero, 1), all.send(one, 2)];
      await settle();
      assert.deepEqual([answerAll(left), answerAll(right)], [[1], [2]]);
      await settle();
      assert.deepEqual(answersOf(asked), ["sent", "sent"]);
      assert.deepEqual(all.links.problems(), []);
    });

    it("what has no owner waits and goes out in order; the first one goes ahead (P4)", async () => {
      const asked = all.sends(zero, 1, 2, 3);
      await settle();
      assert.deepEqual(left.took(), []);
      all.own(left, 0);
      await settle();
      asked.push(all.send(zero, 4));
      await settle();
      // The owner may not know yet that it is: it must not refuse one and take the next.
      assert.deepEqual(answerAll(left), [1]);
      await settle();
      assert.deepEqual(answerAll(left), [2, 3, 4]);
      await settle();
      all.sends(zero, 5, 6);
      await settle();
      assert.deepEqual(left.took(), [5, 6]);
      assert.deepEqual(answersOf(asked), ["sent", "sent", "sent", "sent"]);
    });

    it("what has waited goes out as a retry: its device may have sent it again by another gateway (P2)", async () => {
      const first = sendOf(zero, 1);
      all.links.operate(first, new Asked());
      all.own(left, 0);
      await settle();
      all.links.operate(sendOf(zero, 2), new Asked());
      await settle();
      assert.deepEqual(answerAll(left), [1]);
      await settle();
      const retries = left.operations.map(({ operation: { value } }) => value);
      assert.deepEqual(retries, [{ ...sendOf(zero, 2, true).operation.value }]);
      assert.deepEqual(answerAll(left), [2]);
      await settle();
      all.links.operate(sendOf(zero, 3), new Asked());
      await settle();
      const [direct] = left.operations;
      assert.ok(direct?.operation.case === "send" && !direct.operation.value.retry);
      assert.ok(first.operation.case === "send" && !first.operation.value.retry);
    });

    it("an owner that is no live peer yet, or whose stream is down, is waited for", async () => {
      const late = all.owner("late");
      all.own(late, 0);
      const asked = all.send(zero, 1);
      await settle();
      all.peers.replace([...all.peers.present, late.peer]);
      await settle();
      assert.deepEqual(answerAll(late), [1]);
      await settle();
      late.break();
      await settle();
      const next = all.send(zero, 2);
      await settle();
      assert.deepEqual(late.took(), []);
      all.clock.advance(100);
      await settle();
      assert.deepEqual(answerAll(late), [2]);
      await settle();
      assert.deepEqual(answersOf([asked, next]), ["sent", "sent"]);
    });

    it("a hand-over under pipelined sends: what was refused goes to the next owner before what came later (P4)", async () => {
      await all.open(left, 0);
      const asked = all.sends(zero, 1, 2, 3, 4);
      await settle();
      const [first, second, ...rest] = left.operations.splice(0);
      assert.ok(first !== undefined && second !== undefined);
      left.settle(first, sentAt(1));
      left.settle(second, sentAt(2));
      await settle();
      asked.push(...all.sends(zero, 5));
      for (const operation of rest) left.settle(operation, notOwner);
      await settle();
      asked.push(...all.sends(zero, 6));
      await settle();
      // 5 was sent before the first refusal came.
      assert.deepEqual(answerAll(left, notOwner), [5]);
      all.own(right, 0);
      await settle();
      assert.deepEqual(answerAll(right), [3]);
      await settle();
      assert.deepEqual(answerAll(right), [4, 5, 6]);
      await settle();
      assert.deepEqual(answersOf(asked), ["sent", "sent", "sent", "sent", "sent", "sent"]);
      assert.deepEqual(left.took(), []);
    });

    it("what an owner took before it refused may have its outcome later; refusals may come in any order (P4)", async () => {
      await all.open(left, 0);
      all.sends(zero, 1, 2, 3, 4);
      await settle();
      const came = left.operations.splice(0);
      for (const number of [4, 2, 3]) {
        const operation = came.find((one) => numberOf(one) === number);
        if (operation !== undefined) left.settle(operation, notOwner);
        await settle();
      }
      all.links.expire(all.clock.monotonic());
      const [first] = came;
      assert.ok(first !== undefined);
      left.settle(first, sentAt(1));
      await settle();
      assert.deepEqual(left.took(), [], "it was asked again at once");
      all.own(right, 0);
      await settle();
      assert.deepEqual(answerAll(right), [2]);
      await settle();
      assert.deepEqual(right.took(), [3, 4]);
    });

    it("nothing goes to the next owner while something is under way at the one before", async () => {
      await all.open(left, 0);
      all.send(zero, 1);
      await settle();
      all.own(right, 0);
      all.send(zero, 2);
      await settle();
      assert.deepEqual(right.took(), []);
      answerAll(left);
      await settle();
      assert.deepEqual(right.took(), [2]);
    });

    it("a process that dies: what was under way comes again, in order, as retries with their first head (P2, P4)", async () => {
      await all.open(left, 0);
      const asked = all.sends(zero, 1, 2);
      const value = {
        $typeName: "parley.delivery.v1.MoveCursor",
        deliveredSeq: 3,
        readSeq: 0,
      } as const;
      const move = new Asked();
      all.links.operate(operationOf(zero, { case: "moveCursor", value }), move);
      const typing = { $typeName: "parley.delivery.v1.Typing" } as const;
      all.links.tell(operationOf(zero, { case: "typing", value: typing }));
      await settle();
      assert.equal(left.operations.length, 4);
      all.leave(left);
      asked.push(...all.sends(zero, 3));
      await settle();
      all.own(right, 0);
      await settle();
      const [ahead] = right.operations.splice(0);
      assert.ok(ahead !== undefined);
      right.settle(ahead, sentAt(1));
      await settle();
      const came = [ahead, ...right.operations];
      assert.deepEqual(came.map(numberOf), [1, 2, 0, 3]);
      const retries = came.map(({ operation: { case: kind, value: what } }) =>
        kind === "send" ? [what.retry, what.knownHeadSeq] : kind,
      );
      assert.deepEqual(retries, [[true, 5], [true, 5], "moveCursor", [true, 5]]);
      // What was sent is not changed under the hands of whom it was sent to.
      const [before] = left.operations;
      assert.ok(before?.operation.case === "send" && !before.operation.value.retry);
    });

    it("the same owner under another epoch takes what it refused, at once", async () => {
      await all.open(left, 0);
      all.sends(zero, 1, 2);
      await settle();
      all.own(left, 0);
      answerAll(left, notOwner);
      await settle();
      assert.deepEqual(answerAll(left), [1]);
      await settle();
      assert.deepEqual(left.took(), [2]);
    });

    it("each operation names the epoch that it is routed under (P4)", async () => {
      await all.open(left, 0);
      all.sends(zero, 1, 2);
      await settle();
      const epochs = (): bigint[] => left.operations.map(({ epoch }) => epoch);
      const before = all.shards.owner(0)?.epoch ?? 0n;
      assert.deepEqual(epochs(), [before, before]);
      all.own(left, 0);
      answerAll(left, notOwner);
      await settle();
      assert.deepEqual(epochs(), [before + 1n]);
      answerAll(left);
      await settle();
      assert.deepEqual(epochs(), [before + 1n]);
    });

    it("each send says how many refusals were seen of the stream (P4)", async () => {
      await all.open(left, 0);
      all.sends(zero, 1, 2, 3);
      await settle();
      const [first, second, third] = left.operations.splice(0);
      assert.ok(first !== undefined && second !== undefined && third !== undefined);
      const refused = { $typeName: "parley.delivery.v1.Refused", message: "" } as const;
      const forNow = { ...refused, code: Code.Unavailable, retryAfterMs: 500 };
      left.settle(first, { case: "refused", value: forNow });
      left.settle(second, {
        case: "refused",
        value: { ...forNow, code: Code.NotFound, retryAfterMs: 0 },
      });
      left.settle(third, sentAt(1));
      await settle();
      all.sends(zero, 4);
      await settle();
      const seen = [first, ...left.operations].map((one) => [numberOf(one), one.refusalsSeen]);
      assert.deepEqual(seen, [
        [1, 1],
        [4, 2],
      ]);
    });

    for (const why of ["moves", "dies"])
      it(`what left before another was refused goes out again behind that one only, where its owner ${why} (P4)`, async () => {
        await all.open(left, 0);
        const asked = all.sends(zero, 1, 2);
        const other = new Asked();
        all.links.operate({ ...sendOf(zero, 3), origin: "g/2" }, other);
        await settle();
        const [first] = left.operations;
        assert.ok(first !== undefined);
        left.settle(first, refused(Code.Unavailable, 500));
        await settle();
        // It comes again while what was sent behind it is still under way.
        asked.push(all.send(zero, 1));
        await settle();
        if (why === "moves") {
          left.operations.shift();
          answerAll(left, notOwner);
        } else all.leave(left);
        await settle();
        all.own(right, 0);
        await settle();
        assert.deepEqual(answerAll(right), [3]);
        await settle();
        const again = Array.from({ length: 3 }, () => "Unavailable");
        assert.deepEqual(answersOf([...asked, other]), [...again, "sent"]);
        all.sends(zero, 1, 2);
        await settle();
        assert.deepEqual(right.took(), [1, 2]);
      });

    it("an owner that refuses though the map names it is asked again after 20 ms, then twice as long, up to 1 s", async () => {
      all.own(left, 0);
      all.sends(zero, 1, 2);
      await settle();
      for (const backoffMs of [20, 40, 80, 160, 320, 640, 1_000, 1_000]) {
        assert.deepEqual(answerAll(left, notOwner), [1]);
        await settle();
        all.clock.advance(backoffMs / 2 - 1);
        await settle();
        assert.deepEqual(left.took(), [], `before half of ${backoffMs} ms`);
        all.clock.advance(backoffMs / 2 + 1);
        await settle();
      }
      assert.deepEqual(answerAll(left), [1]);
      await settle();
      assert.deepEqual(left.took(), [2]);
    });

    it("however many it refuses at once, it is asked again after 20 ms", async () => {
      await all.open(left, 0);
      all.sends(zero, 1, 2, 3, 4, 5);
      await settle();
      assert.deepEqual(answerAll(left, notOwner), [1, 2, 3, 4, 5]);
      await settle();
      all.clock.advance(20);
      await settle();
      assert.deepEqual(left.took(), [1]);
    });

    it("what a turn gathers is one request, up to 1 MiB", async () => {
      await all.open(left, 0);
      left.batches.length = 0;
      all.sends(zero, 1, 2, 3);
      await settle();
      for (let number = 4; number <= 13; number += 1) {
        const operation = sendOf(zero, number);
        assert.ok(operation.operation.case === "send");
        operation.operation.value.content = new Uint8Array(262_144);
        all.links.operate(operation, new Asked());
      }
      await settle();
      assert.deepEqual(left.batches, [3, 4, 4, 2]);
      assert.deepEqual(left.took(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    });

    it("typing goes to the owner, and nowhere where there is none", async () => {
      all.own(left, 0);
      const value = { $typeName: "parley.delivery.v1.Typing" } as const;
      all.links.tell(operationOf(zero, { case: "typing", value }));
      all.links.tell(operationOf(one, { case: "typing", value }));
      await settle();
      assert.deepEqual(
        left.operations.map(({ conversationId }) => conversationId),
        [zero],
      );
    });

    it("is not ready where it reaches no owner at all; while some shards move it is", async () => {
      assert.deepEqual(all.links.problems(), ["the gateway reaches no owner of any shard"]);
      all.own(left, 0, 1);
      all.own(all.owner("gone"), 2);
      assert.deepEqual(all.links.problems(), []);
      all.own(right, 2, 3);
      assert.deepEqual(all.links.problems(), []);
      all.peers.replace([]);
      await settle();
      assert.deepEqual(all.links.problems(), ["the gateway has no stream to delivery"]);
      assert.ok(!all.links.up);
    });

    it("whoever waits is told when the links close, and nothing is taken afterwards", async () => {
      await all.open(left, 0);
      const asked = [all.send(zero, 1), all.send(one, 2)];
      await all.links.close();
      asked.push(all.send(zero, 3));
      assert.deepEqual(answersOf(asked), ["Unavailable", "Unavailable", "Unavailable"]);
    });
  });
}

describe("operations that wait for too long", () => {
  let all: Deliveries;
  let left: Owner;
  let right: Owner;

  const pass = (ms: number): void => {
    all.clock.advance(ms);
    all.links.expire(all.clock.monotonic());
  };

  beforeEach(async () => {
    all = new Deliveries();
    left = all.join("left");
    right = all.join("right");
    await settle();
  });
  afterEach(() => all.links.close());

  it("are answered after 10 s, and what was to follow them with them: nothing overtakes (P4)", async () => {
    const early = all.send(zero, 1);
    pass(6_000);
    const late = all.send(zero, 2);
    const other = new Asked();
    all.links.operate({ ...sendOf(zero, 3), origin: "g/2" }, other);
    pass(4_000);
    assert.deepEqual(answersOf([early, late, other]), ["Unavailable", "Unavailable", ""]);
    all.own(left, 0);
    await settle();
    assert.deepEqual(left.took(), [3]);
  });

  it("under way: an outcome that comes later is nobody's, and the next owner is waited for until it comes", async () => {
    await all.open(left, 0);
    const early = all.send(zero, 1);
    await settle();
    pass(10_000);
    assert.deepEqual(early.answers, ["Unavailable"]);
    all.own(right, 0);
    const next = all.send(zero, 2);
    await settle();
    assert.deepEqual(right.took(), []);
    answerAll(left);
    await settle();
    assert.deepEqual(answerAll(right), [2]);
    await settle();
    assert.deepEqual(answersOf([early, next]), ["Unavailable", "sent"]);
  });

  it("under way, then refused for good: so is the next try, which would be taken behind what was sent after them (P4)", async () => {
    await all.open(left, 0);
    const early = all.send(zero, 1);
    pass(6_000);
    const late = all.send(zero, 2);
    pass(4_000);
    all.own(right, 0);
    const again = all.send(zero, 1);
    await settle();
    const [first, second] = left.operations.splice(0);
    assert.ok(first !== undefined && second !== undefined);
    left.settle(first, refused(Code.NotFound, 0));
    left.settle(second, sentAt(1));
    await settle();
    assert.deepEqual(answersOf([early, late, again]), ["Unavailable", "sent", "NotFound"]);
    assert.deepEqual(right.took(), []);
    const next = all.send(zero, 3);
    await settle();
    assert.deepEqual(answerAll(right), [3]);
    await settle();
    assert.deepEqual(next.answers, ["sent"]);
  });

  it("under way, then refused: they do not come again, nor does what was sent after them (P4)", async () => {
    await all.open(left, 0);
    const early = all.send(zero, 1);
    pass(6_000);
    const late = all.send(zero, 2);
    const moved = new Asked();
    const value = {
      $typeName: "parley.delivery.v1.MoveCursor",
      deliveredSeq: 3,
      readSeq: 0,
    } as const;
    all.links.operate(operationOf(zero, { case: "moveCursor", value }), moved);
    await settle();
    pass(4_000);
    assert.deepEqual(answersOf([early, late, moved]), ["Unavailable", "", ""]);
    answerAll(left, notOwner);
    await settle();
    assert.deepEqual(answersOf([early, late, moved]), ["Unavailable", "Unavailable", ""]);
    all.own(right, 0);
    await settle();
    assert.deepEqual(right.took(), [0]);
  });

  for (const why of ["its time is over", "it is refused for now"])
    it(`ahead of others that wait: where ${why} they do not go before it (P4)`, async () => {
      all.own(left, 0);
      const early = all.send(zero, 1);
      pass(6_000);
      const late = all.send(zero, 2);
      const other = new Asked();
      all.links.operate({ ...sendOf(zero, 3), origin: "g/2" }, other);
      await settle();
      if (why === "its time is over") pass(4_000);
      else {
        answerAll(left, refused(Code.Unavailable, 1_000));
        await settle();
      }
      assert.deepEqual(answersOf([early, late, other]), ["Unavailable", "Unavailable", ""]);
      if (why === "its time is over") answerAll(left);
      await settle();
      assert.deepEqual(left.took(), [3]);
    });

  it("are bounded: one more is refused, and there is room again when they are over", async () => {
    for (let at = 0; at < operationsMax; at += 1) all.links.operate(sendOf(zero, at), new Asked());
    const more = all.send(one, 1);
    assert.deepEqual(more.answers, ["ResourceExhausted"]);
    pass(10_000);
    all.own(left, 0);
    const next = all.send(zero, 2);
    await settle();
    assert.deepEqual(answerAll(left), [2]);
    await settle();
    assert.deepEqual(next.answers, ["sent"]);
  });

  it("at a process that owes too many outcomes: its stream is opened anew", async () => {
    await all.open(left, 0);
    for (let at = 0; at <= 10_000; at += 1) all.links.operate(sendOf(zero, at), new Asked());
    await settle();
    assert.equal(left.took().length, 10_001);
    pass(10_000);
    pass(0);
    await settle();
    all.clock.advance(100);
    await settle();
    const next = all.send(zero, 20_000);
    await settle();
    assert.deepEqual(answerAll(left), [20_000]);
    await settle();
    assert.deepEqual(next.answers, ["sent"]);
  });
});

describe("unary calls to the owner", () => {
  let all: Deliveries;
  let calls: OwnerCalls;
  let left: Owner;
  let right: Owner;

  const aborted = new ConnectError("not the owner", Code.Aborted);
  const gone = new ConnectError("gone", Code.Unavailable);
  const create = (): Promise<string | undefined> =>
    calls
      .run(zero, (owner, timeoutMs) => owner.createGroup({ userId: "ann" }, { timeoutMs }))
      .then(({ response }) => response?.conversation?.title);
  /** Of each try, whether it says that there may have been one before. */
  let agains: boolean[];
  const update = (): Promise<number | undefined> =>
    calls
      .run(zero, (owner, timeoutMs, again) => {
        agains.push(again);
        return owner.updateGroup({ userId: "ann" }, { timeoutMs });
      })
      .then(({ response }) => response?.seq);

  async function pass(ms: number): Promise<void> {
    for (let at = 0; at < ms; at += 100) {
      await settle();
      all.clock.advance(100);
    }
    await settle();
  }

  beforeEach(async () => {
    all = new Deliveries();
    agains = [];
    calls = new OwnerCalls(all.surroundings, all.links);
    left = all.join("left");
    right = all.join("right");
    all.own(left, 0);
    await settle();
  });
  afterEach(() => all.links.close());

  it("go to the owner of the conversation's shard", async () => {
    assert.equal(await create(), "left");
    all.own(right, 0);
    assert.equal(await create(), "right");
    assert.deepEqual([left.calls, right.calls], [1, 1]);
  });

  it("wait for the next owner where the one asked is none any more", async () => {
    left.fault = aborted;
    const created = create();
    const updated = update();
    await pass(300);
    all.own(right, 0);
    await pass(1_000);
    assert.deepEqual(await Promise.all([created, updated]), ["right", 1]);
  });

  it("with an unknown outcome, or after a wait, say so to the next owner (P2)", async () => {
    left.fault = gone;
    const updated = update();
    await settle();
    all.leave(left);
    const waited = update();
    await pass(200);
    all.own(right, 0);
    await pass(1_000);
    assert.deepEqual(await Promise.all([updated, waited]), [1, 1]);
    assert.deepEqual([agains.at(0), ...agains.slice(-2)], [false, true, true]);
    assert.equal(right.calls, 2);
  });

  it("end within 10 s where no owner comes", async () => {
    all.leave(left);
    const ended = assert.rejects(create(), { code: Code.Unavailable });
    left.fault = aborted;
    await pass(10_000);
    await ended;
  });

  it("pass on what the owner says of the call itself", async () => {
    left.fault = new ConnectError("no", Code.PermissionDenied);
    await assert.rejects(create(), { code: Code.PermissionDenied });
    assert.equal(left.calls, 1);
  });
});
