/** A line to etcd: tried at each member in turn, said little of, closed at once. */
import assert from "node:assert/strict";
import { ManualClock } from "../../mesh/clock.ts";
import { unavailable } from "../../mesh/errors.ts";
import { keepLine } from "../../mesh/etcd/line.ts";
import type { Attempt, Line } from "../../mesh/etcd/line.ts";
import { Members } from "../../mesh/etcd/members.ts";
import { createLog } from "../../mesh/log.ts";
import { turn } from "./fake-storage.ts";

describe("a line to etcd", () => {
  const random = { unit: () => 0, bytes: () => new Uint8Array() };
  let clock: ManualClock;
  let said: string[];

  beforeEach(() => {
    clock = new ManualClock();
    said = [];
  });

  function keep(run: (attempt: Attempt) => Promise<void>): Line {
    const log = createLog({ to: { write: (line) => void said.push(line) } });
    const members = new Members(["a:1", "b:1", "c:1"], { clock, random, log });
    return keepLine({ clock, random, log, members, mostBackoffMs: 800 }, "it", run);
  }

  async function pass(ms: number): Promise<void> {
    for (const until = clock.now() + ms; clock.now() < until; clock.advance(25)) await turn();
    await turn();
  }

  it("is tried again by a bounded backoff, with a line of the log each half minute", async () => {
    let tries = 0;
    const line = keep(() => {
      tries += 1;
      return Promise.reject(unavailable("away"));
    });
    await pass(1_000);
    assert.equal(line.problem, "it: away");
    assert.equal(said.length, 1);
    const before = tries;
    await pass(4_000);
    assert.equal(tries - before, 10);
    await pass(30_000);
    assert.equal(said.length, 2);
    assert.match(said[0] ?? "", /"endpoint":"a:1".*away/);
    await line.close();
  });

  it("is well when its run says so, until it fails", async () => {
    let attempt: Attempt | undefined;
    const line = keep(
      (given) =>
        new Promise((_, reject) => {
          attempt = given;
          given.signal.addEventListener("abort", () => reject(given.signal.reason as Error));
        }),
    );
    attempt?.fail(unavailable("silent"));
    await pass(50);
    assert.equal(line.problem, "it: silent");
    attempt?.well();
    assert.equal(line.problem, undefined);
    assert.equal(said.length, 2);
    const { signal } = attempt ?? assert.fail();
    await line.close();
    assert.equal(signal.aborted, true);
  });

  it("ends when its run does", async () => {
    let runs = 0;
    const line = keep(() => {
      runs += 1;
      return Promise.resolve();
    });
    await pass(5_000);
    assert.deepEqual([runs, line.problem, said], [1, undefined, []]);
    await line.close();
  });
});
