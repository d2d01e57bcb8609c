import assert from "node:assert/strict";
import { ManualClock } from "../../mesh/clock.ts";
import { seededRandom } from "../../mesh/random.ts";
import { subjectOf } from "../../client/connect.ts";
import { ParleyClient, type ClientLimits, type ClientOptions } from "../../client/index.ts";
import { NodeWebSocket } from "../../client/node.ts";
import { FakeServer, tokenOf } from "./fake-server.ts";
import { Watch } from "./watch.ts";

const bob = "d:alice:bob";
const quick: Partial<ClientLimits> = { backoffBaseMs: 2, gapSettleMs: 2, keepMs: 1 };

describe("the client over Connect", () => {
  let server: FakeServer;
  const clients: ParleyClient[] = [];

  function make(more: Partial<ClientOptions> = {}): { client: ParleyClient; watch: Watch } {
    const client = new ParleyClient({
      url: server.url,
      token: tokenOf("alice"),
      deviceId: "phone",
      transport: "connect",
      random: seededRandom(1),
      webSocket: NodeWebSocket,
      ...more,
      limits: { ...quick, ...more.limits },
    });
    clients.push(client);
    return { client, watch: new Watch(client) };
  }

  async function ready(more: Partial<ClientOptions> = {}): Promise<ReturnType<typeof make>> {
    const made = make(more);
    made.client.connect();
    await made.client.ready();
    return made;
  }

  beforeEach(async () => {
    server = await FakeServer.start();
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) await client.close();
    await server.stop();
  });

  it("gets pushes by a stream, and sends by calls, in order (P4)", async () => {
    server.commit(bob, "bob", "1");
    const { client, watch } = await ready();
    assert.equal(client.userId, "alice", "from the token: there is no Welcome");
    const handles = ["2", "3", "4"].map((text) => client.send({ conversation: bob }, text));
    await Promise.all(handles.map((handle) => handle.sent));
    server.pushToStreams(...(server.logs.get(bob) ?? []), server.commit(bob, "bob", "5"));
    await watch.until(() => watch.records.length === 5);
    assert.deepEqual(watch.records, ["1:1", "2:2", "3:3", "4:4", "5:5"]);
    await server.until(() => server.moves.some(({ deliveredSeq }) => deliveredSeq === 5));
    assert.equal(server.connections.length, 0);
  });

  it("falls back to a stream where WebSockets are blocked, and comes back to them later", async () => {
    server.webSockets = false;
    const clock = new ManualClock();
    // The clock runs ahead of the network here.
    const limits = { upgradeMs: 60_000, answerMs: 600_000 };
    const { client, watch } = make({ transport: "auto", clock, limits });
    client.connect();
    const failures = (): number => watch.states.filter((state) => state === "waiting").length;
    await watch.until(() => failures() === 1);
    clock.advance(10);
    await watch.until(() => failures() === 2);
    clock.advance(10);
    await client.ready();
    assert.deepEqual(server.calls, ["upgrade", "upgrade", "subscribe"]);
    assert.equal(client.connection.trail.transport, "connect");
    // A look at what is still blocked disturbs nothing.
    clock.advance(60_000);
    await server.until(() => server.calls.filter((call) => call === "upgrade").length === 3);
    clock.advance(10_000);
    server.pushToStreams(server.commit(bob, "bob", "1"));
    await watch.until(() => watch.records.length === 1);
    server.webSockets = true;
    clock.advance(59_999);
    assert.deepEqual([client.connection.t, server.connections.length], ["live", 0]);
    clock.advance(1);
    await server.until(() => server.hellos.length === 1);
    await client.ready();
    assert.equal(client.connection.trail.transport, "websocket");
  });

  it("polls where streams do not come through", async () => {
    server.streams = false;
    const clock = new ManualClock();
    const { client, watch } = make({ clock });
    client.connect();
    await server.until(() => server.calls.includes("subscribe"));
    clock.advance(10_000);
    assert.equal(watch.states.at(-1), "waiting");
    assert.equal(client.connection.trail.transport, "connect", "as the option says");

    const auto = make({ transport: "auto", clock });
    server.webSockets = false;
    auto.client.connect();
    const failures = (): number => auto.watch.states.filter((one) => one === "waiting").length;
    await auto.watch.until(() => failures() === 1);
    clock.advance(10);
    await auto.watch.until(() => failures() === 2);
    const before = server.calls.length;
    clock.advance(10);
    await server.until(() => server.calls.slice(before).includes("subscribe"));
    clock.advance(10_000);
    await auto.watch.until(() => failures() === 3);
    clock.advance(10);
    await auto.client.ready();
    assert.equal(auto.client.connection.trail.transport, "poll");
  });

  it("hands what polls bring, and sends", async () => {
    server.commit(bob, "bob", "1");
    const { client, watch } = await ready({ transport: "poll" });
    await server.until(() => server.calls.filter((call) => call === "sync").length === 2);
    server.commit(bob, "bob", "2");
    await watch.until(() => watch.records.length === 2);
    const { seq } = await client.send({ user: "bob" }, "3").sent;
    assert.equal(seq, 3);
    await watch.until(() => watch.records.length === 3);
    assert.deepEqual(watch.records, ["1:1", "2:2", "3:3"]);
    assert.deepEqual(watch.gaps, []);
  });

  it("renews a token that ends between, and loses no send", async () => {
    let now = "one";
    server.goodToken = tokenOf("alice", now);
    const { client } = await ready({ token: () => tokenOf("alice", now) });
    now = "two";
    server.goodToken = tokenOf("alice", now);
    const { seq } = await client.send({ user: "bob" }, "hello").sent;
    assert.equal(seq, 1);
    assert.equal(server.calls.filter((call) => call === "subscribe").length, 2);
  });

  it("keeps a send that the network lost, and tries it again", async () => {
    let broken = true;
    const { client } = await ready({
      fetch: (input, init) => {
        if (typeof input === "string" && input.endsWith("/Send") && broken) {
          broken = false;
          return Promise.reject(new TypeError("network down"));
        }
        return fetch(input, init);
      },
    });
    const { seq } = await client.send({ user: "bob" }, "hello").sent;
    assert.equal(seq, 1);
    assert.deepEqual(
      server.sends.map(({ retry }) => retry),
      [true],
    );
  });

  it("reads the user id out of a token, if there is one", () => {
    assert.equal(subjectOf(tokenOf("ally.b-c_d@x")), "ally.b-c_d@x");
    for (const token of ["", "a.b.c", "a.e30.c", "a.W10.c", "opaque"]) {
      assert.equal(subjectOf(token), "");
    }
  });
});
