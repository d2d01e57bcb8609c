/** Shards that an operator moved to a process: they go there, and stay while it does. */
import assert from "node:assert/strict";
import { Code } from "@connectrpc/connect";
import { unavailable } from "../../mesh/errors.ts";
import { hash32 } from "../../mesh/hash.ts";
import { Pins } from "../../mesh/pins.ts";
import { Cluster, type Process } from "./cluster.ts";
import { until } from "./world.ts";

describe("a shard that is moved to a delivery process", () => {
  let cluster: Cluster;
  afterEach(() => cluster.close());

  const shardOf = (id: string): number => hash32(id) % cluster.registry.count;
  const at = (id: string, { identity }: Process): Promise<true> =>
    until(() => cluster.ownerOf(id) === identity.id || undefined);

  async function moved(): Promise<{ id: string; first: Process; second: Process }> {
    cluster = new Cluster();
    const first = await cluster.add();
    const second = await cluster.add();
    await cluster.placed(first, second);
    const id = cluster.conversationAt(first);
    first.send(1, "alice", id);
    assert.equal(await first.outcome(1), "sent 1");
    await second.client.pinShard({ shard: shardOf(id), pinned: true });
    return { id, first, second };
  }

  it("goes there, and its conversations go on (P2, P3)", async () => {
    const { id, first, second } = await moved();
    await at(id, second);
    first.send(2, "alice", id);
    second.send(2, "alice", id, true);
    assert.deepEqual([await first.outcome(2), await second.outcome(2)], ["notOwner", "sent 2"]);
    const inspected = await second.client.inspectConversation({ conversationId: id });
    const { shard, epoch, taking, loaded, headSeq, committedSeq, waiting } = inspected;
    assert.deepEqual(
      { shard, epoch, taking, loaded, headSeq, committedSeq, waiting },
      {
        shard: shardOf(id),
        epoch: cluster.epochOf(id),
        taking: true,
        loaded: true,
        headSeq: 2,
        committedSeq: 2,
        waiting: 0,
      },
    );
    const elsewhere = await first.client.inspectConversation({ conversationId: id });
    assert.deepEqual([elsewhere.epoch, elsewhere.taking, elsewhere.loaded], [0n, false, false]);
  });

  it("stays there when processes come and go", async () => {
    const { id, first, second } = await moved();
    const others = [await cluster.add(), await cluster.add(), await cluster.add()];
    await cluster.placed(first, second, ...others);
    assert.equal(cluster.ownerOf(id), second.identity.id);
    cluster.gone(first);
    await cluster.placed(second, ...others);
    assert.equal(cluster.ownerOf(id), second.identity.id);
  });

  it("goes back to where it falls when that one drains, and when it is asked for", async () => {
    const { id, first, second } = await moved();
    await at(id, second);
    await second.client.pinShard({ shard: shardOf(id), pinned: false });
    await at(id, first);
    await second.client.pinShard({ shard: shardOf(id), pinned: true });
    await at(id, second);
    cluster.draining(second);
    await at(id, first);
  });

  it("is at one of the two where both are asked to have it, until one is told otherwise", async () => {
    const { id, first, second } = await moved();
    await at(id, second);
    const shard = shardOf(id);
    await first.client.pinShard({ shard, pinned: true });
    await cluster.placed();
    await second.client.pinShard({ shard, pinned: false });
    await at(id, first);
    await cluster.placed(first, second);
  });

  it("is refused where there is no such shard, and where there is nobody to tell", async () => {
    const { first } = await moved();
    const { count } = cluster.registry;
    await assert.rejects(first.client.pinShard({ shard: count, pinned: true }), {
      code: Code.InvalidArgument,
    });
    await assert.rejects(new Pins().set(0, true), { code: Code.FailedPrecondition });
  });

  it("is not kept by a process whose announcement fails, nor beyond 256", async () => {
    cluster = new Cluster();
    const pins = new Pins();
    let fails = true;
    pins.announcedBy(() =>
      fails ? Promise.reject(unavailable("no registry")) : Promise.resolve(),
    );
    await assert.rejects(pins.set(3, true), { code: Code.Unavailable });
    assert.deepEqual(pins.shards, []);
    fails = false;
    await Promise.all(Array.from({ length: 256 }, (_, shard) => pins.set(255 - shard, true)));
    assert.deepEqual(pins.shards.slice(0, 3), [0, 1, 2]);
    await assert.rejects(pins.set(256, true), { code: Code.ResourceExhausted });
    await pins.set(7, true);
    await pins.set(0, false);
    assert.equal(pins.shards.length, 255);
  });
});
