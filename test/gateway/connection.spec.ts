/** The pure parts of a connection: rate, order of sends, what is unacked, what is held, and the state machine over a fake socket. */
import assert from "node:assert/strict";
import { fromBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { gatewayConfig } from "../../gateway/config.ts";
import { Connection } from "../../gateway/connection.ts";
import { Connections } from "../../gateway/connections.ts";
import { destination, isOwnDirect } from "../../gateway/destination.ts";
import { noMetrics } from "../../mesh/metrics.ts";
import { Meter } from "../../gateway/meter.ts";
import { directId } from "../../mesh/ids.ts";
import { FrameWriter } from "../../gateway/frames.ts";
import { HeldPushes } from "../../gateway/held.ts";
import { Flusher } from "../../gateway/outbox.ts";
import { SharedPush } from "../../gateway/pushes.ts";
import { TokenBucket } from "../../gateway/rate.ts";
import { SendOrder } from "../../gateway/sends.ts";
import type { Shared, Wire } from "../../gateway/state.ts";
import { Unacked } from "../../gateway/unacked.ts";
import { ManualClock } from "../../mesh/clock.ts";
import { EnvReader } from "../../mesh/env.ts";
import { seededRandom } from "../../mesh/random.ts";
import { CloseReason } from "../../proto/gen/parley/v1/chat_pb.ts";
import { ServerBatchSchema } from "../../proto/gen/parley/v1/frame_pb.ts";
import { clientId, turn } from "./world.ts";

const writer = new FrameWriter();
const typing = (userId: string) =>
  new SharedPush({
    case: "typing",
    value: { $typeName: "parley.v1.Typing", conversationId: "c", userId },
  });

describe("the rate of a device", () => {
  const limits = { ratePerSecond: 10, bytesPerSecond: 1_000 };

  it("is bounded in frames and in bytes, with a burst of two seconds", () => {
    const frames = new TokenBucket(0, limits);
    assert.ok(frames.take(0, 20, 0));
    assert.ok(!frames.take(0, 1, 0));
    assert.ok(frames.take(100, 1, 0));
    const bytes = new TokenBucket(0, limits);
    assert.ok(bytes.take(0, 1, 2_000));
    assert.ok(!bytes.take(0, 1, 1));
  });

  it("never lets more through than the rate and one burst", () => {
    const tries = fc.array(fc.tuple(fc.nat(300), fc.integer({ min: 1, max: 5 })), {
      maxLength: 200,
    });
    fc.assert(
      fc.property(tries, (all) => {
        const bucket = new TokenBucket(0, limits);
        let nowMs = 0;
        let taken = 0;
        for (const [ms, frames] of all) {
          nowMs += ms;
          if (bucket.take(nowMs, frames, 0)) taken += frames;
        }
        assert.ok(taken <= 20 + (nowMs / 1_000) * 10 + 1e-6);
      }),
    );
  });
});

describe("the order of sends (P4)", () => {
  /** As a connection asks: a send that was refused keeps its place. */
  const asks = (order: SendOrder) => {
    let sends = 0;
    return (id: number, conversation = "c", nowMs = 0): boolean => {
      const place = order.placeOf(conversation, clientId(id)) ?? (sends += 1);
      return order.mayGo(conversation, clientId(id), place, nowMs);
    };
  };

  it("holds later ones back until every refused one has come again", () => {
    const order = new SendOrder();
    const go = asks(order);
    assert.ok(go(1));
    order.refused("c", clientId(1), 1, 0);
    assert.ok(!go(2));
    assert.ok(go(3, "other"), "another conversation is another matter");
    assert.ok(go(1));
    assert.ok(go(2));
    assert.ok(go(4));
    assert.equal(order.size, 0);
  });

  it("holds one back that comes again, too, where another was sent before it and was refused later", () => {
    const order = new SendOrder();
    const go = asks(order);
    for (const id of [1, 2, 3]) assert.ok(go(id));
    order.refused("c", clientId(2), 2, 0);
    order.refused("c", clientId(3), 3, 0);
    order.refused("c", clientId(1), 1, 0);
    assert.ok(!go(2), "the first one has not come again");
    assert.ok(!go(4));
    assert.ok(!go(3));
    for (const id of [1, 2, 3, 4, 5]) assert.ok(go(id), `${id}`);
    assert.equal(order.size, 0);
  });

  it("is over after 10 s, however many were held back meanwhile", () => {
    const order = new SendOrder();
    order.refused("c", clientId(1), 1, 0);
    assert.ok(!order.mayGo("c", clientId(2), 2, 9_999));
    assert.ok(order.mayGo("c", clientId(3), 3, 10_000));
    order.refused("c", clientId(1), 1, 0);
    order.tidy(9_999);
    assert.equal(order.size, 1);
    order.tidy(10_000);
    assert.equal(order.size, 0);
  });
});

describe("what is unacked", () => {
  const due = (unacked: Unacked, nowMs: number, tries = 3): [boolean, [string, number][]] => {
    const again: [string, number][] = [];
    const alive = unacked.due(nowMs, 100, tries, (id, from) => again.push([id, from]));
    return [alive, again];
  };

  it("comes again after a time that doubles, then the device is dead", () => {
    const unacked = new Unacked();
    unacked.pushed("c", 5, 0);
    unacked.pushed("c", 6, 50);
    assert.deepEqual(due(unacked, 99), [true, []]);
    assert.deepEqual(due(unacked, 100, 2), [true, [["c", 5]]]);
    assert.deepEqual(due(unacked, 299, 2), [true, []]);
    assert.deepEqual(due(unacked, 300, 2), [true, [["c", 5]]]);
    assert.deepEqual(due(unacked, 699, 2), [true, []]);
    assert.deepEqual(due(unacked, 700, 2), [false, []]);
  });

  it("ends with the ack of the last, and begins anew with the ack of a part", () => {
    const unacked = new Unacked();
    unacked.pushed("c", 5, 0);
    unacked.pushed("c", 7, 0);
    unacked.acked("c", 4, 90);
    unacked.acked("other", 9, 90);
    assert.equal(unacked.size, 1);
    unacked.acked("c", 5, 90);
    assert.deepEqual(due(unacked, 189), [true, []]);
    assert.deepEqual(due(unacked, 190), [true, [["c", 6]]]);
    unacked.acked("c", 7, 190);
    assert.equal(unacked.size, 0);
  });
});

describe("pushes held during a sync", () => {
  it("are bounded in number and in bytes; beyond, the device has to sync", () => {
    const count = new HeldPushes(1e9);
    for (let at = 0; at < 1_024; at += 1) count.hold(typing("a"));
    assert.ok(!count.overflowed);
    count.hold(typing("a"));
    assert.ok(count.overflowed);
    assert.equal(count.pushes.length, 0);
    const bytes = new HeldPushes(600);
    for (const user of ["a", "b", "c"]) bytes.hold(typing(user));
    assert.ok(bytes.overflowed);
  });
});

describe("where a message goes", () => {
  it("a direct conversation has one name for both", () => {
    assert.equal(directId("bob", "alice"), directId("alice", "bob"));
    assert.equal(destination("bob", "", "alice"), "d:alice:bob");
    assert.equal(destination("bob", "g:1", ""), "g:1");
    // By code unit, not by any language's rules.
    assert.equal(directId("a", "B"), "d:B:a");
  });

  it("is one's own only where one is one of the two", () => {
    assert.ok(isOwnDirect("d:alice:bob", "bob"));
    for (const id of ["d:alice:bob:", "d:bob:alice", "d:alice:carol", "g:bob", "d::bob", "bob"]) {
      assert.ok(!isOwnDirect(id, "bob"), id);
    }
  });
});

class FakeWire implements Wire {
  bufferedAmount = 0;
  readonly sent: Buffer[] = [];
  closed: { code: number; reason: string } | undefined;
  terminated = false;
  paused = false;
  send(message: Buffer, written?: () => void): void {
    this.sent.push(message);
    written?.();
  }
  close(code: number, reason: string): void {
    this.closed = { code, reason };
  }
  terminate(): void {
    this.terminated = true;
  }
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  frames() {
    return this.sent.flatMap((message) => fromBinary(ServerBatchSchema, message).frames);
  }
}

describe("a connection", () => {
  const told: string[] = [];
  function make(config: object = {}) {
    told.length = 0;
    const clock = new ManualClock();
    const shared: Shared = {
      config: { ...gatewayConfig(new EnvReader({}, "PARLEY_")), ...config },
      clock,
      random: seededRandom(1),
      writer,
      meter: new Meter(clock, noMetrics, new Connections(1, 1, 10)),
      flusher: new Flusher(clock),
      greeted: (connection, _token, frame) => {
        connection.admit(frame.requestId, new Uint8Array(0), 0);
      },
      admitted: () => told.push("admitted"),
      asked: (_connection, _live, frame) => told.push(`asked ${frame.requestId}`),
      left: () => told.push("left"),
      gone: () => told.push("gone"),
    };
    const wire = new FakeWire();
    const connection = new Connection(shared, wire, 1, "", "");
    return { connection, wire, clock };
  }
  const beat = (id: number): Buffer => Buffer.from([0x0a, 4, 0x08, id, 0x1a, 0]);

  function live(config: object = {}) {
    const made = make(config);
    const { connection } = made;
    connection.receive(beat(1), true);
    const { state } = connection;
    assert.ok(state.t === "admitting");
    const welcome = writer.other(1, { case: undefined });
    const caller = { userId: "alice", deviceId: "phone", origin: "g1/1" };
    connection.name("alice", "phone");
    connection.welcome(caller, state, welcome);
    connection.synced();
    return made;
  }

  it("reads nothing from the Hello to the Welcome, and then what came meanwhile, in order", () => {
    const { connection, wire } = make();
    connection.receive(Buffer.concat([beat(1), beat(2)]), true);
    assert.ok(wire.paused);
    connection.receive(beat(3), true);
    assert.deepEqual(told, []);
    const { state } = connection;
    assert.ok(state.t === "admitting");
    connection.attached();
    connection.welcome(
      { userId: "a", deviceId: "d", origin: "g1/1" },
      state,
      writer.other(1, { case: undefined }),
    );
    assert.ok(!wire.paused);
    assert.deepEqual(told, ["admitted", "asked 2", "asked 3"]);
  });

  it("bounds what comes between Hello and Welcome", () => {
    const { connection, wire } = make({ ratePerSecond: 10_000 });
    connection.receive(beat(1), true);
    for (let at = 0; at < 1_024; at += 1) connection.receive(beat(2), true);
    assert.equal(connection.state.t, "admitting");
    connection.receive(beat(2), true);
    assert.equal(wire.closed?.code, 4_101);
  });

  it("writes what one turn has for it as one message", async () => {
    const { connection, wire } = live();
    for (const user of ["a", "b", "c"]) connection.push(typing(user), 0);
    assert.equal(wire.sent.length, 0);
    await turn();
    assert.equal(wire.sent.length, 1);
    assert.equal(wire.frames().length, 4);
  });

  it("says Goodbye, closes, leaves once, and takes nothing more", async () => {
    const { connection, wire } = live();
    connection.end(CloseReason.DRAINING, "bye", 77);
    assert.equal(connection.state.t, "draining");
    connection.end(CloseReason.SLOW, "again", 0);
    connection.push(typing("a"), 0);
    connection.receive(beat(9), true);
    await turn();
    const goodbye = wire.frames().at(-1)?.frame;
    assert.ok(goodbye?.case === "goodbye");
    assert.deepEqual(
      [goodbye.value.reason, goodbye.value.reconnectAfterMs],
      [CloseReason.DRAINING, 77],
    );
    assert.deepEqual(wire.closed, { code: 4_001, reason: "bye" });
    connection.closed();
    connection.closed();
    assert.deepEqual(told, ["left", "gone"]);
    assert.equal(connection.state.t, "closed");
  });

  it("that does not close by itself is cut off", () => {
    const { connection, wire, clock } = live();
    connection.end(CloseReason.DRAINING, "bye", 0);
    const round = { sums: [], agains: [], heartbeatWithSum() {}, pushAgain() {} };
    connection.tick(clock.monotonic() + 4_999, round);
    assert.ok(!wire.terminated);
    connection.tick(clock.monotonic() + 5_000, round);
    assert.ok(wire.terminated);
  });

  it("P9 more than the outbox holds: closed as slow, without a Goodbye that could not be read", async () => {
    const { connection, wire } = live({ outboxMaxBytes: 1_000 });
    await turn();
    wire.bufferedAmount = 990;
    connection.push(typing("alice"), 0);
    assert.equal(wire.closed?.code, 4_002);
    await turn();
    assert.ok(wire.frames().every(({ frame }) => frame.case !== "goodbye"));
  });

  it("one frame larger than the outbox goes where nothing else waits", async () => {
    const { connection, wire } = live({ outboxMaxBytes: 50 });
    await turn();
    connection.queueChunk(writer.failure(1, 3, "x".repeat(500), 0));
    await turn();
    assert.equal(wire.closed, undefined);
  });

  it("keeps the reason of a close within 123 bytes, whatever it quotes", () => {
    const { connection, wire } = live();
    connection.end(CloseReason.PROTOCOL, "é".repeat(100), 0);
    assert.ok(Buffer.byteLength(wire.closed?.reason ?? "") <= 123);
  });
});

describe("all connections of a gateway", () => {
  it("are told by user and bounded for each", () => {
    const connections = new Connections(3, 2, 10);
    const make = (userId: string) => {
      const one = { number: connections.next(), userId } as Connection;
      connections.add(one);
      return one;
    };
    const [a, b, c] = [make("alice"), make("alice"), make("alice")];
    assert.deepEqual(
      [a, b, c].map((one) => one && connections.join(one)),
      [true, true, false],
    );
    assert.ok(connections.full);
    assert.equal(connections.ofUser("alice").length, 2);
    if (a) connections.leave(a);
    if (c) assert.ok(connections.join(c));
    for (const one of [a, b, c]) if (one) connections.remove(one);
    assert.equal(connections.ofUser("alice").length, 0);
    assert.equal(connections.size, 0);
  });

  it("have numbers that follow on where the gateway's life began", () => {
    const connections = new Connections(3, 2, 10, 700);
    assert.deepEqual([connections.next(), connections.next()], [701, 702]);
  });
});
