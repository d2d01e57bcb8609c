/** The client where a server sends it to another one: it goes there, and comes back where that is of no use. */
import assert from "node:assert/strict";
import { ManualClock } from "../../mesh/clock.ts";
import { seededRandom } from "../../mesh/random.ts";
import { ParleyClient, type ClientOptions } from "../../client/index.ts";
import { NodeWebSocket } from "../../client/node.ts";
import { toldUrl } from "../../client/options.ts";
import { CloseReason } from "../../proto/gen/parley/v1/chat_pb.ts";
import { FakeServer, tokenOf } from "./fake-server.ts";
import { Watch } from "./watch.ts";

describe("the client, sent elsewhere", () => {
  let near: FakeServer;
  let far: FakeServer;
  const clients: ParleyClient[] = [];

  function make(more: Partial<ClientOptions> = {}): { client: ParleyClient; watch: Watch } {
    const client = new ParleyClient({
      url: near.url,
      token: tokenOf("alice"),
      deviceId: "phone",
      random: seededRandom(1),
      webSocket: NodeWebSocket,
      ...more,
      limits: { backoffBaseMs: 2, keepMs: 1, ...more.limits },
    });
    clients.push(client);
    client.connect();
    return { client, watch: new Watch(client) };
  }

  /** The server answers every Hello so. */
  function sends(server: FakeServer, url: () => string, reason = CloseReason.ELSEWHERE): void {
    server.script = ({ frame }) =>
      frame.case === "hello"
        ? { case: "goodbye", value: { reason, reconnectAfterMs: 5, url: url() } }
        : "do";
  }

  beforeEach(async () => {
    near = await FakeServer.start();
    far = await FakeServer.start();
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) await client.close();
    await near.stop();
    await far.stop();
  });

  it("goes where it is sent, with its token and all", async () => {
    sends(near, () => far.url.replace("http", "ws"));
    const { client } = make();
    await client.ready();
    assert.deepEqual([near.hellos.length, far.hellos.length], [1, 1]);
    assert.equal(far.hellos[0]?.token, near.hellos[0]?.token);
    const { seq } = await client.send({ user: "bob" }, "hello").sent;
    assert.equal(seq, 1);
    assert.equal(far.sends.length, 1);
  });

  it("goes where a server that drains sends it, and back when it loses that one", async () => {
    const { client, watch } = make();
    await client.ready();
    const value = { reason: CloseReason.DRAINING, reconnectAfterMs: 5, url: far.url };
    near.last.tell({ frame: { case: "goodbye", value } });
    await far.until(() => far.hellos.length === 1);
    await client.ready();
    const lives = (): number => watch.states.filter((state) => state === "live").length;
    await watch.until(() => lives() === 2);
    far.last.socket.terminate();
    await near.until(() => near.hellos.length === 2);
    await client.ready();
    assert.equal(far.hellos.length, 1);
  });

  it("loses no time where a server sends it, and fails no send meanwhile", async () => {
    const clock = new ManualClock();
    const random = { unit: () => 0.99, bytes: (length: number) => Buffer.alloc(length, 7) };
    const { client, watch } = make({ clock, random, limits: { backoffBaseMs: 500, stableMs: 0 } });
    await client.ready();
    const value = { reason: CloseReason.DRAINING, reconnectAfterMs: 40, url: far.url };
    near.last.tell({ frame: { case: "goodbye", value } });
    await watch.until(() => watch.states.at(-1) === "waiting");
    const handle = client.send({ user: "bob" }, "hello");
    clock.advance(39);
    assert.deepEqual([handle.status, far.hellos.length], ["pending", 0]);
    clock.advance(1);
    assert.equal((await handle.sent).seq, 1);
    assert.equal(far.sends.length, 1);
  });

  it("comes back to the configured address where it does not get through there", async () => {
    far.webSockets = false;
    let sent = false;
    sends(near, () => far.url);
    const { script } = near;
    near.script = (frame, connection) => {
      if (frame.frame.case !== "hello" || sent) return "do";
      sent = true;
      return script(frame, connection);
    };
    const { client } = make();
    await client.ready();
    assert.deepEqual([near.hellos.length, far.calls.length], [2, 1]);
    assert.equal(client.connection.trail.transport, "websocket");
  });

  it("waits longer and longer between two servers that send it to each other", async () => {
    const clock = new ManualClock();
    sends(near, () => far.url);
    sends(far, () => near.url);
    const random = { unit: () => 0.5, bytes: (length: number) => new Uint8Array(length) };
    const { client, watch } = make({ clock, random, limits: { backoffBaseMs: 500 } });
    const waits: number[] = [];
    for (let tries = 1; tries <= 6; tries += 1) {
      const count = (): number => watch.states.filter((state) => state === "waiting").length;
      await watch.until(() => count() === tries);
      const { connection } = client;
      assert.ok(connection.t === "waiting");
      waits.push(connection.delayMs);
      clock.advance(connection.delayMs);
    }
    assert.deepEqual(waits, [5, 500, 1_000, 2_000, 4_000, 8_000]);
  });

  it("stays where it is where it is sent to what is no address of a server", async () => {
    let sent = 0;
    near.script = ({ frame }) => {
      if (frame.case !== "hello") return "do";
      const url = ["javascript:alert(1)", "nowhere", "ftp://x.example.org"][sent];
      sent += 1;
      if (url === undefined) return "do";
      return {
        case: "goodbye",
        value: { reason: CloseReason.ELSEWHERE, reconnectAfterMs: 0, url },
      };
    };
    const { client } = make();
    await client.ready();
    assert.equal(near.hellos.length, 4);
  });

  it("over a stream, too: a goodbye is no welcome", async () => {
    near.goodbye = { reason: CloseReason.ELSEWHERE, reconnectAfterMs: 5, url: far.url };
    const { client, watch } = make({ transport: "connect" });
    await client.ready();
    assert.ok(far.calls.includes("subscribe"));
    const lives = watch.states.filter((state) => state === "live");
    assert.equal(lives.length, 1);
  });
});

describe("an address that a server tells", () => {
  it("is taken where it is one of a server, as a base address, and never without TLS instead of with it", () => {
    const cases: [told: string, configured: string, taken: string][] = [
      ["https://eu.example.org", "https://example.org", "https://eu.example.org"],
      ["wss://eu.example.org/", "https://example.org", "https://eu.example.org"],
      ["http://127.0.0.1:81/chat/", "http://example.org", "http://127.0.0.1:81/chat"],
      ["https://me:pw@eu.example.org/?x#y", "http://example.org", "https://eu.example.org"],
      ["http://eu.example.org", "https://example.org", ""],
      ["ws://eu.example.org", "https://example.org", ""],
      ["", "http://example.org", ""],
      ["/ws", "http://example.org", ""],
      ["file:///etc/passwd", "http://example.org", ""],
    ];
    for (const [told, configured, taken] of cases)
      assert.equal(toldUrl(told, configured), taken, told);
  });
});
