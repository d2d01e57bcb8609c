import assert from "node:assert/strict";
import { ManualClock } from "../../mesh/clock.ts";
import { Gather, mapped, Pipe } from "../../mesh/pipe.ts";
import { collect, turn } from "./fake-storage.ts";

const value = (n: number): { n: number } => ({ n });

describe("Pipe", () => {
  it("hands out in order what was offered, before and while the reader waits", async () => {
    const pipe = new Pipe<{ n: number }>(10);
    pipe.offer(value(1));
    pipe.offer(value(2));
    assert.deepEqual(await pipe.next(), { done: false, value: value(1) });
    assert.deepEqual(await pipe.next(), { done: false, value: value(2) });
    const next = pipe.next();
    pipe.offer(value(3));
    assert.deepEqual(await next, { done: false, value: value(3) });
  });

  it("takes no more than its bound, and again once one was read", async () => {
    const pipe = new Pipe<{ n: number }>(3);
    const taken = [1, 2, 3, 4].map((n) => pipe.offer(value(n)));
    assert.deepEqual(taken, [true, true, true, false]);
    await pipe.next();
    assert.equal(pipe.offer(value(5)), true);
    assert.equal(pipe.offer(value(6)), false);
    pipe.end();
    const rest = await collect(pipe);
    assert.deepEqual(
      rest.map(({ n }) => n),
      [2, 3, 5],
    );
  });

  it("keeps order through many turns of filling and emptying", async () => {
    const pipe = new Pipe<{ n: number }>(7);
    const seen: number[] = [];
    for (let n = 0; n < 1_000;) {
      while (n < 1_000 && pipe.offer(value(n))) n++;
      for (let k = 0; k < 1 + (n % 7); k++) {
        const next = await pipe.next();
        if (next.done !== true) seen.push(next.value.n);
        if (seen.length === n) break;
      }
    }
    pipe.end();
    for await (const { n } of pipe) seen.push(n);
    assert.deepEqual(
      seen,
      Array.from({ length: 1_000 }, (_, n) => n),
    );
  });

  it("gives what is left, then the end, and takes nothing after it", async () => {
    const pipe = new Pipe<{ n: number }>(10);
    pipe.offer(value(1));
    pipe.end();
    assert.equal(pipe.offer(value(2)), false);
    assert.equal(pipe.ended, true);
    assert.deepEqual(await collect(pipe), [value(1)]);
    assert.deepEqual(await pipe.next(), { done: true, value: undefined });
  });

  it("gives what is left, then the error", async () => {
    const pipe = new Pipe<{ n: number }>(10);
    pipe.offer(value(1));
    pipe.end(new Error("broken"));
    assert.deepEqual(await pipe.next(), { done: false, value: value(1) });
    await assert.rejects(pipe.next(), /broken/);
  });

  it("releases a reader that waits, by its end or its error", async () => {
    const pipe = new Pipe<{ n: number }>(10);
    const next = pipe.next();
    pipe.end();
    assert.deepEqual(await next, { done: true, value: undefined });
    const broken = new Pipe<{ n: number }>(10);
    const failed = assert.rejects(broken.next(), /broken/);
    broken.end(new Error("broken"));
    await failed;
  });

  it("is over when its reader leaves", async () => {
    const pipe = new Pipe<{ n: number }>(10);
    pipe.offer(value(1));
    pipe.offer(value(2));
    for await (const { n } of pipe) {
      assert.equal(n, 1);
      break;
    }
    assert.equal(pipe.ended, true);
    assert.equal(pipe.offer(value(3)), false);
    assert.deepEqual(await collect(pipe), []);
  });

  it("has one question open at a time", async () => {
    const pipe = new Pipe<{ n: number }>(10);
    const first = pipe.next();
    await assert.rejects(pipe.next(), /one reader/);
    pipe.offer(value(1));
    assert.deepEqual(await first, { done: false, value: value(1) });
  });
});

describe("Gather", () => {
  const clock = new ManualClock();

  it("makes one batch of what comes in one turn", async () => {
    const gather = new Gather<number>(clock, 100);
    const next = gather.next();
    gather.add(1);
    gather.add(2);
    await Promise.resolve();
    gather.add(3);
    assert.deepEqual(await next, { done: false, value: [1, 2, 3] });
    const second = gather.next();
    gather.add(4);
    assert.deepEqual(await second, { done: false, value: [4] });
  });

  it("makes one batch of what comes while the reader is busy", async () => {
    const gather = new Gather<number>(clock, 100);
    const next = gather.next();
    gather.add(1);
    assert.deepEqual((await next).value, [1]);
    for (const n of [2, 3, 4]) {
      gather.add(n);
      await turn();
    }
    assert.equal(gather.size, 3);
    assert.deepEqual((await gather.next()).value, [2, 3, 4]);
    assert.equal(gather.size, 0);
  });

  it("takes no more than its bound", async () => {
    const gather = new Gather<number>(clock, 2);
    assert.deepEqual(
      [1, 2, 3].map((n) => gather.add(n)),
      [true, true, false],
    );
    assert.deepEqual((await gather.next()).value, [1, 2]);
    assert.equal(gather.add(4), true);
  });

  it("gives what is left at once when it ends, then the end or the error", async () => {
    const gather = new Gather<number>(clock, 100);
    gather.add(1);
    gather.end();
    assert.equal(gather.add(2), false);
    assert.deepEqual(await collect(gather), [[1]]);
    const broken = new Gather<number>(clock, 100);
    broken.add(1);
    broken.end(new Error("broken"));
    assert.deepEqual((await broken.next()).value, [1]);
    await assert.rejects(broken.next(), /broken/);
  });

  it("is over when its reader leaves", async () => {
    const gather = new Gather<number>(clock, 100);
    gather.add(1);
    await gather.return();
    await turn();
    assert.equal(gather.add(2), false);
    assert.equal(gather.size, 0);
    assert.deepEqual(await collect(gather), []);
  });
});

describe("mapped", () => {
  it("maps each value, and leaves its source when its reader leaves", async () => {
    const pipe = new Pipe<{ n: number }>(10);
    pipe.offer(value(1));
    pipe.offer(value(2));
    const seen: number[] = [];
    for await (const n of mapped(pipe, ({ n: one }) => one * 10)) {
      seen.push(n);
      if (seen.length === 2) break;
    }
    assert.deepEqual(seen, [10, 20]);
    assert.equal(pipe.ended, true);
  });
});
