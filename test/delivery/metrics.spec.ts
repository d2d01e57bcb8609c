/** What delivery counts moves when the thing happens. */
import assert from "node:assert/strict";
import { Code } from "@connectrpc/connect";
import { LocalMesh } from "../../mesh/local.ts";
import { Stage } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { Cluster } from "./cluster.ts";
import { World, response, until } from "./world.ts";

const direct = "d:alice:bob";

describe("delivery's metrics", () => {
  it("count batches, what is in them, those that fail, and messages that come again", async () => {
    const world = new World(new LocalMesh({ wire: true }));
    const of = (series: string): number | undefined =>
      world.metrics.of(`parley_delivery_${series}`);
    try {
      await world.start();
      world.answer = () => "silent";
      for (const id of [1, 2, 3]) world.send(id, "alice", direct, id);
      const first = await until(() => world.appends[0]);
      assert.equal(of("batches"), 1);
      assert.equal(of("conversations"), 1);
      assert.equal(world.metrics.sumOf("parley_delivery_batch_conversations"), 1);
      assert.equal(world.metrics.sumOf("parley_delivery_batch_records"), 3);
      assert.equal(of("commit_seconds"), 0);
      world.clock.advance(20);
      world.respond(first, Stage.INDEXED);
      await world.sentSeq(3);
      assert.equal(of("batches"), 0);
      assert.equal(world.metrics.sumOf("parley_delivery_commit_seconds"), 0.02);

      assert.equal(of("duplicates_total"), 0);
      world.answer = undefined;
      world.send(4, "alice", direct, 3, { retry: true, knownHeadSeq: 3 });
      await world.sentSeq(4);
      assert.equal(of("duplicates_total"), 1);

      assert.equal(of("failed_batches_total"), 0);
      world.answer = (batch) => [response(batch, Stage.FAILED, Code.ResourceExhausted, "full")];
      world.send(5, "alice", direct, 5);
      assert.equal((await world.outcome(5)).case, "refused");
      assert.equal(of("failed_batches_total"), 1);
      assert.equal(of("batches_again_total"), 0);
    } finally {
      await world.close();
    }
  });

  it("count batches that are handed over again after the stream broke", async () => {
    const world = new World(new LocalMesh({ wire: true }));
    try {
      await world.start();
      world.answer = (batch) =>
        world.appends.length === 1 ? "break" : [response(batch, Stage.INDEXED)];
      world.send(1, "alice", direct, 1);
      await until(
        () => world.metrics.of('parley_stream_failures_total{stream="delivery to storage"}') === 1,
      );
      world.clock.advance(1_000);
      await world.sentSeq(1);
      assert.equal(world.metrics.of("parley_delivery_batches_again_total"), 1);
    } finally {
      await world.close();
    }
  });

  it("count shards, their moves and takeovers", async () => {
    const cluster = new Cluster();
    const of = (series: string): number => cluster.metrics.of(`parley_delivery_${series}`) ?? -1;
    try {
      const first = await cluster.add();
      await cluster.placed(first);
      const { count } = cluster.registry;
      assert.deepEqual([of("shards"), of("moves_total"), of("takeovers_total")], [count, 0, 0]);
      const second = await cluster.add();
      await cluster.placed(first, second);
      const moved = of("moves_total");
      assert.ok(moved > 0 && moved < count, `${moved} of ${count} moved`);
      assert.equal(of("takeovers_total"), 0);
      cluster.gone(second);
      await cluster.placed(first);
      await until(() => of("takeovers_total") === moved);
    } finally {
      await cluster.close();
    }
  });
});
