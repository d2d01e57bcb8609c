/** The loads against a server that errs on purpose: every kind of harm is found, and none where there is none. */
import assert from "node:assert/strict";
import { faultCount } from "../../bench/check.ts";
import { runGroup } from "../../bench/group.ts";
import { runGrowth } from "../../bench/growth.ts";
import { runIdle } from "../../bench/idle.ts";
import type { GroupJob, GrowthJob, LoadResult, PairsJob } from "../../bench/job.ts";
import { runPairs } from "../../bench/pairs.ts";
import { fakeParley, type FakeOptions } from "./fake-parley.ts";

const quiet = (): void => undefined;
const brief = { run: "t", warmMs: 50, measureMs: 200 };

async function pairs(
  options: FakeOptions,
  pace: PairsJob["pace"],
  drainMs = 10_000,
): Promise<LoadResult> {
  const fake = await fakeParley(options);
  try {
    const job: PairsJob = { kind: "pairs", target: fake.target, ...brief, connections: 4, pace };
    return await runPairs(job, quiet, drainMs);
  } finally {
    await fake.close();
  }
}

/** The copies of the opening messages are the first two. */
const at = (copy: number, what: "lose" | "double" | "hold") => (n: number) =>
  n === copy ? what : undefined;

describe("bench: pairs", () => {
  it("finds nothing wrong with a server that is right, closed loop", async () => {
    const { faults, measured } = await pairs({ heartbeat: true }, { window: 4 });
    assert.deepEqual(faults.examples, []);
    assert.equal(faultCount(faults), 0);
    assert.ok(measured.count > 0);
    assert.ok((measured.ack?.count ?? 0) > 0);
    assert.ok((measured.delivery?.count ?? 0) > 0);
    assert.equal(measured.serverSeconds, undefined);
  });

  it("keeps to its rate, open loop", async () => {
    const { faults, measured } = await pairs({}, { perSecond: 500 });
    assert.equal(faultCount(faults), 0);
    assert.ok(measured.count <= 500, `${measured.count} in ${measured.seconds} s`);
    assert.ok((measured.delivery?.count ?? 0) > 0);
  });

  it("P1: finds a lost message", async () => {
    const { faults } = await pairs({ err: at(50, "lose") }, { window: 4 }, 300);
    assert.equal(faults.lost, 1);
    assert.equal(faults.doubled + faults.reordered, 0);
  });

  it("P2: finds a doubled message", async () => {
    const { faults } = await pairs({ err: at(50, "double") }, { window: 4 });
    assert.equal(faults.doubled, 1);
    assert.equal(faults.lost, 0);
  });

  it("P3: finds a reordered message", async () => {
    const { faults } = await pairs({ err: at(50, "hold") }, { window: 4 });
    assert.ok(faults.reordered >= 1);
    assert.equal(faults.lost + faults.doubled, 0);
  });

  it("counts refused sends and goes on", async () => {
    const { faults, measured } = await pairs({ refuse: (send) => send === 50 }, { window: 4 });
    assert.equal(faults.failed, 1);
    assert.equal(faults.lost + faults.unanswered, 0);
    assert.match(faults.examples[0] ?? "", /too fast/);
    assert.ok(measured.count > 0);
  });

  it("P5: finds that a sender is not told of delivery", async () => {
    const { faults } = await pairs({ silentAfter: 50 }, { window: 4 }, 300);
    assert.ok(faults.untold >= 1);
    assert.equal(faults.lost, 0);
  });

  it("ends with the server's words where it is refused", async () => {
    await assert.rejects(pairs({ refuse: () => true }, { window: 4 }), /too fast/);
  });
});

describe("bench: group", () => {
  const group = async (options: FakeOptions, drainMs = 10_000): Promise<LoadResult> => {
    const fake = await fakeParley(options);
    try {
      const shape = { members: 5, senders: 2, window: 4 };
      const job: GroupJob = { kind: "group", target: fake.target, ...brief, ...shape };
      return await runGroup(job, quiet, drainMs);
    } finally {
      await fake.close();
    }
  };

  it("counts copies", async () => {
    const { faults, measured } = await group({});
    assert.equal(faultCount(faults), 0);
    assert.ok(measured.count > 0);
  });

  it("finds one lost copy", async () => {
    const { faults } = await group({ err: at(50, "lose") }, 300);
    assert.equal(faults.lost, 1);
  });
});

describe("bench: growth", () => {
  const growth = async (options: FakeOptions) => {
    const fake = await fakeParley(options);
    try {
      const job: GrowthJob = {
        kind: "growth",
        target: fake.target,
        run: "t",
        senders: 3,
        receiversPerSender: 4,
        window: 3,
        messages: 400,
        roundMessages: 30,
        rounds: 3,
        roundSyncs: 6,
      };
      return await runGrowth(job, quiet);
    } finally {
      await fake.close();
    }
  };

  it("fills the store and measures twice", async () => {
    const result = await growth({});
    assert.deepEqual(result.faults.examples, []);
    assert.equal(result.messages, 400 + 3 * 30);
    assert.equal(result.conversations, 12);
    for (const part of [result.append, result.firstSync, result.laterSync]) {
      assert.ok(part.empty.count > 0 && part.full.count > 0);
    }
  });

  it("P1: finds that an acked message is not kept", async () => {
    const { faults } = await growth({ forget: true });
    assert.equal(faults.lost, 12);
  });
});

describe("bench: idle", () => {
  it("opens its connections and holds them", async () => {
    const fake = await fakeParley({ heartbeat: true });
    try {
      const { target } = fake;
      const settleMs = 50;
      const result = await runIdle(
        { kind: "idle", target, run: "t", protocol: "parley", connections: 20, settleMs },
        quiet,
      );
      assert.equal(faultCount(result.faults), 0);
      assert.equal(result.residentBytesEach, undefined);
      assert.ok((fake.got.get("heartbeatReply") ?? 0) >= 20);
    } finally {
      await fake.close();
    }
  }).timeout(20_000);
});
