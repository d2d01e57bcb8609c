/** What slices of a server's time say of what goes on and off in them, and how sure it is. */
import assert from "node:assert/strict";
import { intervalOf } from "../../bench/interval.ts";
import { met } from "../../bench/report.ts";
import {
  bareMicros,
  blocksOf,
  microsForEach,
  moreOf,
  together,
  type Slice,
} from "../../bench/slices.ts";
import { seededRandom } from "../../mesh/random.ts";

const order = [true, false, false, true, false, true, true, false];

/** A message takes 10 µs and, while it is on, so much more; what a slice takes besides is drawn by chance. */
function run(count: number, more: (seconds: number, count: number) => number): Slice[] {
  const random = seededRandom(5);
  return Array.from({ length: count }, (_, at) => {
    const on = order[at % 8] ?? true;
    const messages = 1_000 + Math.floor(random.unit() * 9_000);
    const noise = 1 + 0.4 * (random.unit() - 0.5);
    const cpuSeconds = messages * 10e-6 * noise + (on ? more(0.25, messages) : 0);
    return { on, seconds: 0.25, count: messages, cpuSeconds };
  });
}

describe("bench: slices", () => {
  const within = (value: number | undefined, low: number, high: number): void =>
    assert.ok(value !== undefined && value > low && value < high, `${value}: ${low} to ${high}`);

  it("find a cost of 3 in 100 in ten times as much noise, and none where there is none", () => {
    const nothing = moreOf(
      blocksOf(
        run(8_000, () => 0),
        4,
      ),
    );
    const some = moreOf(
      blocksOf(
        run(8_000, (_, count) => count * 0.3e-6),
        4,
      ),
    );
    within(nothing?.low, -0.01, 0);
    within(nothing?.high, 0, 0.01);
    within(some?.low, 0.02, 0.03);
    within(some?.high, 0.03, 0.04);
    within(
      bareMicros(
        blocksOf(
          run(8_000, () => 0),
          4,
        ),
      ),
      9.9,
      10.1,
    );
  });

  it("find what one of so many a second costs", () => {
    const each = microsForEach(
      blocksOf(
        run(8_000, (seconds) => seconds * 100 * 50e-6),
        4,
      ),
      100,
    );
    within(each?.low, 20, 50);
    within(each?.high, 50, 80);
  });

  it("leave out what was before the load, its beginning, and its end", () => {
    const idle = Array.from({ length: 8 }, (_, at): Slice => {
      return { on: order[at] ?? true, seconds: 0.25, count: 0, cpuSeconds: 0.001 };
    });
    assert.equal(blocksOf([...idle, ...run(16, () => 0)], 1).length, 2);
    assert.equal(moreOf([]), undefined);
  });

  it("have Student's interval, which tells a limit only where it is outside", () => {
    const interval = intervalOf([1, 2, 3]);
    within(interval?.low, -0.485, -0.483);
    within(interval?.high, 4.483, 4.485);
    assert.equal(intervalOf([1]), undefined);
    const goal = (low: number, high: number): boolean | undefined =>
      met({
        ...{
          what: "cost",
          value: (low + high) / 2,
          interval: { mean: (low + high) / 2, low, high },
        },
        ...{ limit: 0.03, bound: "at most", unit: "" },
      });
    assert.deepEqual(
      [goal(0.01, 0.02), goal(0.01, 0.04), goal(0.04, 0.05)],
      [true, undefined, false],
    );
    const both = together([
      { mean: 1, low: -2, high: 4 },
      { mean: 2, low: -2, high: 6 },
    ]);
    assert.deepEqual(both, { mean: 3, low: -2, high: 8 });
  });
});
