import assert from "node:assert/strict";
import { every, ManualClock, sleep, systemClock } from "../../mesh/clock.ts";
import { turn } from "./fake-storage.ts";

describe("ManualClock", () => {
  it("runs what falls due, in order of time, then in order of arming", () => {
    const clock = new ManualClock(1_000);
    const seen: [string, number][] = [];
    const see = (name: string) => (): void => void seen.push([name, clock.now()]);
    clock.after(20, see("c"));
    clock.after(10, see("a"));
    clock.after(10, see("b"));
    clock.after(31, see("late"));
    clock.advance(9);
    assert.deepEqual(seen, []);
    clock.advance(21);
    assert.deepEqual(seen, [
      ["a", 1_010],
      ["b", 1_010],
      ["c", 1_020],
    ]);
    assert.equal(clock.now(), 1_030);
    assert.equal(clock.monotonic(), 1_030);
  });

  it("runs what a timer arms, where that falls due", () => {
    const clock = new ManualClock(0);
    const seen: number[] = [];
    const again = (): void => {
      seen.push(clock.now());
      if (seen.length < 4) clock.after(10, again);
    };
    clock.after(10, again);
    clock.advance(25);
    assert.deepEqual(seen, [10, 20]);
    clock.advance(100);
    assert.deepEqual(seen, [10, 20, 30, 40]);
  });

  it("does not run what was cancelled, even by another timer of the same moment", () => {
    const clock = new ManualClock(0);
    let ran = false;
    clock.after(10, () => cancel());
    const cancel = clock.after(10, () => (ran = true));
    clock.advance(10);
    cancel();
    assert.equal(ran, false);
  });

  it("never goes back, whatever is armed", () => {
    const clock = new ManualClock(100);
    const seen: number[] = [];
    clock.after(-50, () => seen.push(clock.now()));
    clock.advance(0);
    assert.deepEqual(seen, [100]);
  });

  it("knows the turns of the event loop", async () => {
    let ran = false;
    new ManualClock().afterTurn(() => (ran = true));
    await Promise.resolve();
    assert.equal(ran, false);
    await turn();
    assert.equal(ran, true);
  });
});

describe("every", () => {
  it("runs until it is cancelled, also by itself", () => {
    const clock = new ManualClock(0);
    let count = 0;
    const cancel = every(clock, 10, () => {
      count++;
      if (count === 3) cancel();
    });
    clock.advance(25);
    assert.equal(count, 2);
    clock.advance(100);
    assert.equal(count, 3);
  });
});

describe("sleep", () => {
  it("ends with its time", async () => {
    const clock = new ManualClock(0);
    let over = false;
    const sleeping = sleep(clock, 10).then(() => (over = true));
    clock.advance(9);
    await turn();
    assert.equal(over, false);
    clock.advance(1);
    await sleeping;
  });

  it("ends with its signal, before or while it sleeps", async () => {
    const clock = new ManualClock(0);
    const abort = new AbortController();
    const sleeping = assert.rejects(sleep(clock, 10, abort.signal), /enough/);
    abort.abort(new Error("enough"));
    await sleeping;
    await assert.rejects(sleep(clock, 10, abort.signal), /enough/);
  });
});

describe("systemClock", () => {
  it("runs once, after its time, and not at all when cancelled", async () => {
    const began = systemClock.monotonic();
    let cancelled = false;
    systemClock.after(1, () => (cancelled = true))();
    // Longer than the system's timers can be: it must not fire at once.
    const cancel = systemClock.after(2 ** 40, () => (cancelled = true));
    const keep = setInterval(() => undefined, 1_000);
    await new Promise<void>((resolve) => void systemClock.after(20, resolve));
    clearInterval(keep);
    cancel();
    assert(systemClock.monotonic() - began >= 19);
    assert.equal(cancelled, false);
  });
});
