/** A server that was restored from a backup, and a device that had seen more. */
import assert from "node:assert/strict";
import { MemoryStore, type ParleyClient, type TransportName } from "../../client/index.ts";
import { createNodeClient } from "../../client/node.ts";
import { seededRandom } from "../../mesh/random.ts";
import { FakeServer, tokenOf } from "./fake-server.ts";
import { Watch } from "./watch.ts";

const bob = "d:alice:bob";

describe("a device whose server is restored from a backup", () => {
  let server: FakeServer;
  const store = new MemoryStore();
  const clients: ParleyClient[] = [];

  function begin(transport: TransportName): { client: ParleyClient; watch: Watch } {
    const client = createNodeClient({
      url: server.url,
      token: tokenOf("alice"),
      store,
      transport,
      random: seededRandom(1),
      limits: { backoffBaseMs: 2, gapSettleMs: 2, keepMs: 1 },
    });
    clients.push(client);
    client.connect();
    return { client, watch: new Watch(client) };
  }

  const texts = (client: ParleyClient): string[] =>
    client.records(bob).map(({ body }) => (body.case === "message" ? (body.value.text ?? "") : ""));

  beforeEach(async () => {
    server = await FakeServer.start();
    await store.save(new Map([...(await store.load()).keys()].map((key) => [key, undefined])));
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) await client.close();
    await server.stop();
  });

  /** What came after the backup is lost, and others have written at its places since. */
  function restore(storeId: string, ...later: string[]): void {
    server.storeId = storeId;
    server.logs.get(bob)?.splice(2);
    for (const text of later) server.commit(bob, "bob", text);
  }

  for (const transport of ["websocket", "connect", "poll"] as const)
    it(`P3 P6: forgets what is there no more, and has all that is, by ${transport}`, async () => {
      server.storeId = "first";
      for (const text of ["one", "two", "lost", "lost too"]) server.commit(bob, "bob", text);
      const { client, watch } = begin(transport);
      await client.ready();
      assert.deepEqual(texts(client), ["one", "two", "lost", "lost too"]);
      await client.close();

      restore("second", "new");
      const next = begin(transport);
      await next.watch.until(() => next.watch.records.length >= 3);
      assert.deepEqual(next.watch.records, ["1:one", "2:two", "3:new"]);
      assert.deepEqual(texts(next.client), ["one", "two", "new"]);
      const view = next.client.conversation(bob);
      assert.deepEqual([view?.headSeq, view?.gotSeq, view?.unreadCount], [3, 3, 3]);
      assert.deepEqual([...watch.errors, ...next.watch.errors], []);
      await next.client.close();

      // The third time there is nothing to forget.
      const third = begin(transport);
      let anew = 0;
      third.client.on("anew", () => (anew += 1));
      await third.client.ready();
      assert.equal(anew, 0);
      assert.equal(third.client.conversation(bob)?.gotSeq, 3);
    });

  it("sends what it had not sent, and goes on with what is not told by an older server", async () => {
    server.commit(bob, "bob", "one");
    const { client, watch } = begin("websocket");
    await client.ready();
    // The server tells for the first time: nothing was lost by that.
    server.storeId = "first";
    server.last.socket.terminate();
    await watch.until(() => watch.states.filter((state) => state === "live").length === 2);
    await client.ready();
    let anew = 0;
    client.on("anew", () => (anew += 1));
    server.commit(bob, "bob", "two");
    server.commit(bob, "bob", "lost");
    await client.sync();
    await watch.until(() => watch.records.length === 3);
    server.script = ({ frame }) => (frame.case === "send" ? "drop" : "do");
    const { sent } = client.send({ conversation: bob }, "unsent");
    await server.until(() => server.sends.length > 0);
    server.script = () => "do";
    restore("second", "new");
    server.last.socket.terminate();
    assert.equal((await sent).seq, 4);
    await watch.until(() => texts(client).length === 4);
    assert.deepEqual(texts(client), ["one", "two", "new", "unsent"]);
    assert.equal(anew, 1);
  });
});
