/** The proxy does to bytes what a test tells it to. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { Socket, connect, createServer } from "node:net";
import type { AddressInfo, Server } from "node:net";
import { Proxy } from "./proxy.ts";
import type { Direction } from "./proxy.ts";
import { asked, within } from "./within.ts";

const boundMs = 5_000;

/** One end of a connection, with all that it was told. */
class End {
  readonly socket: Socket;
  text = "";
  ended = false;
  error: Error | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (bytes: Buffer) => (this.text += bytes.toString()));
    socket.on("end", () => (this.ended = true));
    socket.on("error", (error) => (this.error = error));
  }

  async has(text: string): Promise<void> {
    while (this.text !== text) await within(boundMs, `"${text}"`, once(this.socket, "data"));
  }

  async end(): Promise<void> {
    if (!this.ended) await within(boundMs, "an end", once(this.socket, "end"));
  }

  async closed(): Promise<void> {
    if (!this.socket.closed)
      await within(boundMs, "a close", new Promise((go) => this.socket.once("close", go)));
  }
}

/** Answers "?" with its name. */
async function serverNamed(name: string, ends: End[]): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    ends.push(new End(socket));
    socket.on("data", (bytes: Buffer) => {
      if (bytes.includes("?")) socket.write(name);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

const targetOf = (server: Server): { host: string; port: number } => ({
  host: "127.0.0.1",
  port: (server.address() as AddressInfo).port,
});

describe("proxy", () => {
  const ends: End[] = [];
  const servers: Server[] = [];
  const clients: End[] = [];
  let proxy: Proxy;

  beforeEach(async () => {
    servers.push(await serverNamed("one", ends), await serverNamed("two", ends));
    proxy = await Proxy.open(servers.slice(0, 1).map(targetOf));
  });
  afterEach(async () => {
    for (const { socket } of clients.splice(0)) socket.destroy();
    for (const { socket } of ends.splice(0)) socket.destroy();
    await proxy.close();
    for (const server of servers.splice(0)) server.close();
  });

  const open = async (): Promise<End> => {
    const socket = connect({ port: proxy.port, host: proxy.host, allowHalfOpen: true });
    const end = new End(socket);
    clients.push(end);
    await within(boundMs, "a connection", once(socket, "connect"));
    return end;
  };

  /** A connection that is reset, before or after it seemed to be there. */
  const refused = async (): Promise<void> => {
    const end = new End(connect({ port: proxy.port, host: proxy.host }));
    clients.push(end);
    await end.closed();
    assert.ok(end.error);
  };

  const dropped = (bytes: number): Promise<true> =>
    asked(boundMs, `${bytes} bytes dropped`, () =>
      Promise.resolve(proxy.droppedBytes === bytes ? true : undefined),
    );

  /** A connection that is through. */
  const through = async (): Promise<{ client: End; server: End }> => {
    const client = await open();
    const before = client.text;
    client.socket.write("?");
    await within(boundMs, "an answer", once(client.socket, "data"));
    client.text = before;
    const server = ends.at(-1);
    assert.ok(server);
    server.text = "";
    return { client, server };
  };

  const sides = (
    { client, server }: { client: End; server: End },
    direction: Direction,
  ): [from: End, to: End] => (direction === "up" ? [client, server] : [server, client]);

  it("passes bytes and ends both ways", async () => {
    const { client, server } = await through();
    client.socket.write("hello");
    await server.has("hello");
    server.socket.write("hi");
    await client.has("hi");
    client.socket.end();
    await server.end();
    server.socket.write(", still here");
    await client.has("hi, still here");
    server.socket.end();
    await client.end();
  });

  it("passes more than fits into the buffers of a reader that is slow", async () => {
    const { client, server } = await through();
    server.socket.pause();
    const bytes = Buffer.alloc(8 * 1_024 * 1_024, "x");
    client.socket.end(bytes);
    server.socket.resume();
    await server.end();
    assert.equal(server.text.length, bytes.length);
  });

  for (const direction of ["up", "down"] as const) {
    it(`drops ${direction} and nothing else, until it is healed`, async () => {
      const pair = await through();
      const [from, to] = sides(pair, direction);
      proxy.set({ t: "drop" }, { direction });
      from.socket.write("lost");
      to.socket.write("the other way");
      await from.has("the other way");
      await dropped(4);
      assert.equal(proxy.connections, 1);
      proxy.heal();
      from.socket.write("kept");
      await to.has("kept");
    });

    it(`delays ${direction} and keeps the order, with what comes after it too`, async () => {
      const pair = await through();
      const [from, to] = sides(pair, direction);
      proxy.set({ t: "delay", ms: 200 }, { direction });
      const startMs = performance.now();
      to.socket.write("at once");
      await from.has("at once");
      from.socket.write("1");
      from.socket.write("2");
      await to.has("12");
      assert.ok(performance.now() - startMs >= 199, "later");
      proxy.heal();
      from.socket.write("3");
      from.socket.end();
      await to.has("123");
      await to.end();
    });

    it(`half-closes ${direction}: the other way goes on`, async () => {
      const pair = await through();
      const [from, to] = sides(pair, direction);
      proxy.halfClose(direction);
      await to.end();
      to.socket.write("still here");
      await from.has("still here");
      assert.ok(!from.ended);
    });
  }

  it("drops the end of a stream too", async () => {
    const { client, server } = await through();
    proxy.set({ t: "drop" });
    client.socket.destroy();
    await client.closed();
    proxy.set({ t: "pass" }, { direction: "down" });
    assert.ok(!server.ended);
    assert.ok(!server.socket.destroyed);
  });

  it("takes new connections while it drops, and says nothing to them", async () => {
    proxy.set({ t: "drop" });
    const client = await open();
    client.socket.write("?");
    const other = await open();
    other.socket.write("?");
    await dropped(2);
    proxy.heal();
    other.socket.write("?");
    await other.has("one");
    assert.equal(client.text, "");
  });

  it("cuts all connections now, and lets new ones through", async () => {
    const { client, server } = await through();
    proxy.cut();
    await client.closed();
    await server.closed();
    assert.ok(client.error);
    assert.equal(proxy.connections, 0);
    await through();
  });

  it("refuses new connections, and keeps those that are there", async () => {
    const { client, server } = await through();
    proxy.refuse();
    await refused();
    client.socket.write("still");
    await server.has("still");
    proxy.heal();
    await through();
  });

  it("tells each side that the other was reset", async () => {
    const { client, server } = await through();
    server.socket.resetAndDestroy();
    await client.closed();
    assert.ok(client.error);
  });

  it("tells connections apart by who connects", async () => {
    const label = (socket: Socket): Promise<string> =>
      Promise.resolve(socket.remotePort === mine.localPort ? "mine" : "other");
    const mine = new Socket();
    clients.push(new End(mine));
    const labelled = await Proxy.open(servers.slice(0, 1).map(targetOf), undefined, label);
    try {
      const other = new End(connect({ port: labelled.port, host: labelled.host }));
      clients.push(other);
      await within(boundMs, "a connection", once(other.socket, "connect"));
      labelled.set({ t: "drop" }, { of: "mine" });
      mine.connect({ port: labelled.port, host: labelled.host });
      await within(boundMs, "a connection", once(mine, "connect"));
      mine.write("?");
      other.socket.write("?");
      await other.has("one");
      await asked(boundMs, "a byte dropped", () =>
        Promise.resolve(labelled.droppedBytes === 1 ? true : undefined),
      );
      labelled.cut("mine");
      await within(boundMs, "a close", new Promise((go) => mine.once("close", go)));
      labelled.refuse("mine");
      other.socket.write("?");
      await other.has("oneone");
      assert.equal(labelled.connections, 1);
    } finally {
      await labelled.close();
    }
  });

  it("takes turns among the targets, and passes by those that are gone", async () => {
    proxy.targets = servers.map(targetOf);
    const names = async (): Promise<string[]> => {
      const answers: string[] = [];
      for (let n = 0; n < 4; n += 1) {
        const client = await open();
        client.socket.write("?");
        await within(boundMs, "a name", once(client.socket, "data"));
        answers.push(client.text);
      }
      return answers.toSorted();
    };
    assert.deepEqual(await names(), ["one", "one", "two", "two"]);
    servers[0]?.close();
    assert.deepEqual(await names(), ["two", "two", "two", "two"]);
    servers[1]?.close();
    await refused();
  });
});
