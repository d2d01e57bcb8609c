import assert from "node:assert/strict";
import { hash32 } from "../../mesh/hash.ts";

describe("hash32", () => {
  it("is what it always was, for it is written into tokens and keys", () => {
    assert.deepEqual(
      ["", "a", "d:alice:bob", "g:ü"].map(hash32),
      [2_872_998_923, 444_641_715, 2_319_098_833, 2_202_218_304],
    );
  });

  it("spreads texts that differ little evenly over shards", () => {
    const counts = new Array<number>(64).fill(0);
    for (let n = 0; n < 64_000; n++) {
      const shard = hash32(`d:user${n}:user${n + 1}`) % 64;
      counts[shard] = (counts[shard] ?? 0) + 1;
    }
    // 1,000 each, give or take six standard deviations.
    assert(Math.min(...counts) > 810 && Math.max(...counts) < 1_190, counts.join());
  });
});
