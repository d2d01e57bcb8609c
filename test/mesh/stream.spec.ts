import assert from "node:assert/strict";
import { ManualClock } from "../../mesh/clock.ts";
import { createLog } from "../../mesh/log.ts";
import { noMetrics } from "../../mesh/metrics.ts";
import { keepStream } from "../../mesh/stream.ts";
import { Event, fired, turn } from "./fake-storage.ts";

describe("keepStream", () => {
  const log = createLog({ level: "silent" });

  it("runs again with a backoff that doubles up to its bound, and begins anew after a good run", async () => {
    const clock = new ManualClock(0);
    const began: number[] = [];
    let end = new Event();
    const random = { unit: () => 1, bytes: () => new Uint8Array() };
    const stream = keepStream({ clock, random, log, metrics: noMetrics }, "test", async () => {
      began.push(clock.now());
      if (began.length === 11) await end.happened;
      throw new Error("broken");
    });
    for (let step = 0; step < 3_000; step++) {
      await turn();
      clock.advance(10);
    }
    const waits = began.slice(1).map((at, index) => at - (began[index] ?? 0));
    assert.deepEqual(waits, [50, 100, 200, 400, 800, 1_000, 1_000, 1_000, 1_000, 1_000]);
    assert.equal(stream.up, true);
    end.happen();
    await turn();
    assert.equal(stream.up, false);
    const ended = clock.now();
    end = new Event();
    for (let step = 0; step < 10; step++) {
      clock.advance(10);
      await turn();
    }
    assert.equal((began[11] ?? 0) - ended, 50);
    await stream.close();
  });

  it("spreads its tries", async () => {
    const clock = new ManualClock(0);
    let count = 0;
    const random = { unit: () => 0, bytes: () => new Uint8Array() };
    const stream = keepStream({ clock, random, log, metrics: noMetrics }, "test", () => {
      count++;
      return Promise.resolve();
    });
    await turn();
    clock.advance(24);
    await turn();
    assert.equal(count, 1);
    clock.advance(1);
    await turn();
    assert.equal(count, 2);
    await stream.close();
  });

  it("fires a run's signal when the run is over, and when it is closed", async () => {
    const clock = new ManualClock(0);
    const signals: AbortSignal[] = [];
    const random = { unit: () => 0, bytes: () => new Uint8Array() };
    const second = new Event();
    const stream = keepStream(
      { clock, random, log, metrics: noMetrics },
      "test",
      async (signal) => {
        signals.push(signal);
        if (signals.length === 1) return;
        second.happen();
        await fired(signal);
      },
    );
    await turn();
    assert.equal(signals[0]?.aborted, true);
    clock.advance(100);
    await second.happened;
    assert.equal(signals[1]?.aborted, false);
    await stream.close();
    assert.equal(signals[1]?.aborted, true);
    assert.equal(stream.up, false);
    clock.advance(100_000);
    await turn();
    assert.equal(signals.length, 2);
  });

  it("closes while it waits for the next try", async () => {
    const clock = new ManualClock(0);
    const random = { unit: () => 0, bytes: () => new Uint8Array() };
    const stream = keepStream({ clock, random, log, metrics: noMetrics }, "test", () =>
      Promise.reject(new Error("no")),
    );
    await turn();
    await stream.close();
  });
});
