/** Shards in memory: a table of what was heard, and a registry. */
import assert from "node:assert/strict";
import { MemoryShards, ShardTable } from "../../mesh/shards.ts";

describe("a table of shards", () => {
  it("learns what is newer, and tells of that only", () => {
    const table = new ShardTable(4);
    const told: number[] = [];
    const stop = table.watch((shard) => told.push(shard));
    assert.equal(table.owner(1), undefined);
    table.learn(1, { incarnation: "a", epoch: 5n });
    table.learn(1, { incarnation: "b", epoch: 4n });
    table.learn(1, { incarnation: "c", epoch: 5n });
    assert.deepEqual(table.owner(1), { incarnation: "a", epoch: 5n });
    table.learn(1, { incarnation: "b", epoch: 6n });
    table.learn(3, { incarnation: "b", epoch: 1n });
    assert.deepEqual(told, [1, 1, 3]);
    stop();
    table.learn(1, { incarnation: "c", epoch: 7n });
    assert.deepEqual(told, [1, 1, 3]);
    assert.equal(table.owner(1)?.incarnation, "c");
    assert.equal(table.count, 4);
  });
});

describe("shards in memory", () => {
  it("go from the owner that was expected to the next, by epochs that grow", async () => {
    const shards = new MemoryShards(2);
    const first = await shards.replace(0, undefined, "a");
    assert.deepEqual(first, { incarnation: "a", epoch: 1n });
    assert.equal(await shards.replace(0, undefined, "b"), undefined);
    assert.deepEqual(await shards.refresh(0), first);
    assert.deepEqual(await shards.replace(0, first, "b"), { incarnation: "b", epoch: 2n });
    assert.equal(await shards.replace(0, first, "c"), undefined);
  });
});
