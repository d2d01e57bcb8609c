/** What a gateway counts moves when the thing happens. */
import assert from "node:assert/strict";
import { World, record, row, until } from "./world.ts";

const ab = "d:alice:bob";

describe("a gateway's metrics", () => {
  let world: World;
  const of = (series: string): number | undefined => world.metrics.of(series);

  beforeEach(async () => {
    world = await new World({ unackedRetryMs: 10_000 }).open();
  });
  afterEach(() => world.close());

  it("count messages, those that come again, and what waits for delivery", async () => {
    const device = await world.device("alice");
    assert.equal(of("parley_gateway_connections"), 1);
    device.say(1, ab, "the owner shows itself", 1);
    await device.answer(1);
    assert.equal(of("parley_gateway_ack_seconds"), 1);
    world.delivery.answer = () => undefined;
    device.say(2, ab, "one", 2);
    device.say(3, ab, "two", 3, true);
    await until(() => world.delivery.operations.length === 3);
    assert.equal(of("parley_gateway_sends_total"), 3);
    assert.equal(of("parley_gateway_retries_total"), 1);
    assert.equal(of("parley_gateway_operations"), 2);
    world.clock.advance(50);
    for (const operation of world.delivery.operations.slice(1)) {
      const outcome = world.delivery.usual(operation);
      if (outcome !== undefined) world.delivery.settle(operation, outcome);
    }
    await device.answer(3);
    assert.equal(of("parley_gateway_operations"), 0);
    assert.equal(of("parley_gateway_ack_seconds"), 3);
    assert.equal(world.metrics.sumOf("parley_gateway_ack_seconds"), 0.1);
  });

  it("count streams, those that break, and what is sent again for it", async () => {
    const stream = '{stream="gateway to delivery"}';
    const device = await world.device("alice");
    await until(() => of(`parley_streams${stream}`) === 1);
    assert.equal(of(`parley_stream_failures_total${stream}`), 0);
    world.delivery.answer = () => undefined;
    device.say(1, ab, "one");
    await until(() => world.delivery.operations.length === 1);
    world.delivery.break();
    await until(() => of(`parley_streams${stream}`) === 0);
    assert.equal(of(`parley_stream_failures_total${stream}`), 1);
    assert.equal(of("parley_gateway_operations_again_total"), 1);
    world.delivery.answer = (operation) => world.delivery.usual(operation);
    await world.pass(1_000);
    await device.answer(1);
    assert.equal(of(`parley_streams${stream}`), 1);
  });

  it("count pushes, how old each batch's first message is, and what is pushed again", async () => {
    const device = await world.device("bob");
    const bytes = record(ab, 1, "alice", "m1", world.clock.now() - 250);
    const value = { conversationId: ab, seq: 1, record: bytes };
    world.session.push(["bob"], { case: "record", value });
    await device.frame("pushed");
    assert.equal(of("parley_gateway_pushes_total"), 1);
    assert.equal(of("parley_gateway_push_seconds"), 1);
    assert.equal(world.metrics.sumOf("parley_gateway_push_seconds"), 0.25);
    assert.equal(of("parley_gateway_pushes_again_total"), 0);
    world.storage.rows.set("bob", [row(ab, "bob", 1)]);
    world.storage.logs.set(ab, [bytes]);
    await world.pass(12_000);
    await device.frame("pushed");
    assert.equal(of("parley_gateway_pushes_again_total"), 1);
  });

  it("count the connections that are ended, by why, and what waits for them", async () => {
    const slow = 'parley_gateway_closes_total{reason="slow"}';
    const device = await world.device("bob");
    device.socket.pause();
    const value = {
      conversationId: ab,
      seq: 1,
      record: record(ab, 1, "alice", "x".repeat(60_000)),
    };
    assert.equal(of(slow), 0);
    let most = 0;
    while (of(slow) === 0) {
      world.session.push(["bob"], { case: "record", value });
      await new Promise((resolve) => setImmediate(resolve));
      most = Math.max(most, of("parley_gateway_outbox_bytes") ?? 0);
    }
    assert.equal(of(slow), 1);
    assert.ok(most > 500_000, `${most} bytes waited at most`);
  });
});
