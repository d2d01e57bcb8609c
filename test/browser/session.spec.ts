/** Under the page: one connection for all tabs of an account, what is read and written while offline, and the ways around what is blocked. */
import assert from "node:assert/strict";
import type { Page } from "playwright-core";
import { openGround } from "./ground.ts";

const live = (page: Page): Promise<void> =>
  page.evaluate(() => parley.face?.until(({ synced }) => synced));

const send = (page: Page, text: string): Promise<string | undefined> =>
  page.evaluate(
    async (said) => parley.face?.session.send({ conversation: "d:alice:bob" }, { text: said }),
    text,
  );

/** Resolves once the tab has as many of the conversation's messages. */
const has = (page: Page, count: number): Promise<void> =>
  page.evaluate(
    (wanted) => parley.face?.until((face) => face.texts("d:alice:bob").length >= wanted),
    count,
  );

const texts = (page: Page): Promise<string[] | undefined> =>
  page.evaluate(() => parley.face?.texts("d:alice:bob"));

const faults = (page: Page): Promise<string[] | undefined> =>
  page.evaluate(() => parley.face?.faults);

/** Counts the WebSockets that a page opens from now on. */
function countSockets(page: Page): () => number {
  let count = 0;
  page.on("websocket", () => (count += 1));
  return () => count;
}

describe("the page's session in a browser", () => {
  const ground = openGround("fixture");

  it("keeps the contract of a client's store in a real IndexedDB", async () => {
    const page = await (await ground.context()).newPage();
    await page.goto(ground.url);
    await page.locator("body[data-ready]").waitFor({ state: "attached" });
    const kept = await page.evaluate(async () => {
      const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
      const first = new parley.IndexedDbStore("x");
      await first.load();
      await first.save(
        new Map([
          ["a", bytes("1")],
          ["b", bytes("2")],
        ]),
      );
      await first.save(
        new Map([
          ["a", undefined],
          ["b", bytes("3")],
        ]),
      );
      const second = new parley.IndexedDbStore("x");
      const items = await second.load();
      const late = await first.save(new Map([["b", bytes("4")]])).then(() => "kept", String);
      return { items: [...items].map(([key, value]) => [key, [...value]]), late };
    });
    assert.deepEqual(kept.items, [["b", [51]]]);
    assert.match(kept.late, /another client has this store/);
  });

  it("shares one connection among tabs, and they agree", async () => {
    const bob = await ground.person("bob");
    await live(bob.page);
    const alice = await ground.person("alice");
    await live(alice.page);
    const second = await alice.context.newPage();
    const sockets = countSockets(second);
    await second.goto(ground.url);
    await second.locator("body[data-ready]").waitFor({ state: "attached" });
    await second.evaluate(async () => void parley.open(await parley.signIn.byName("alice")));
    await live(second);
    await send(alice.page, "from the first tab");
    await send(second, "from the second tab");
    await send(bob.page, "from Bob");
    for (const page of [alice.page, second, bob.page]) await has(page, 3);
    const told = await texts(alice.page);
    assert.deepEqual(await texts(second), told);
    assert.deepEqual(await texts(bob.page), told);
    assert.equal(sockets(), 0);
    assert.deepEqual([await faults(alice.page), await faults(second)], [[], []]);
  });

  it("goes on in the next tab when the connected one is closed: nothing lost, nothing doubled (P1, P2)", async () => {
    const bob = await ground.person("bob");
    await live(bob.page);
    const alice = await ground.person("alice");
    await live(alice.page);
    const second = await alice.newTab();
    await live(second);
    const before = (await texts(second))?.length ?? 0;
    const sends = second.evaluate(async () => {
      const { face } = parley;
      for (let at = 0; at < 40; at += 1) {
        await face?.session.send({ conversation: "d:alice:bob" }, { text: `taken over ${at}` });
        await new Promise((turn) => requestAnimationFrame(turn));
      }
    });
    await has(second, before + 5);
    await alice.page.close();
    await sends;
    await has(bob.page, before + 40);
    await has(second, before + 40);
    const wanted = Array.from({ length: 40 }, (_, at) => `taken over ${at}`);
    assert.deepEqual((await texts(bob.page))?.slice(-40), wanted);
    assert.deepEqual((await texts(second))?.slice(-40), wanted);
    await second.evaluate(() => parley.face?.until(({ pending }) => pending.size === 0));
  });

  it("shows what was loaded and keeps what is written while the server is away, over a reload; then it goes out once", async () => {
    ground.expect(/ERR_|WebSocket connection to/);
    const bob = await ground.person("bob");
    await live(bob.page);
    const alice = await ground.person("alice");
    await live(alice.page);
    await send(alice.page, "before");
    await has(bob.page, 1);
    const before = (await texts(alice.page))?.length ?? 0;
    await alice.context.setOffline(true);
    await alice.page.evaluate(() =>
      parley.face?.until(({ connection }) => connection.t === "waiting"),
    );
    await send(alice.page, "while offline");
    const page = await alice.page.evaluate(async () => {
      const found = await parley.face?.session.history("d:alice:bob", { limit: 10 });
      return found?.entries.map(({ body }) => (body.t === "message" ? body.text : ""));
    });
    assert.equal(page?.at(-1), "before");
    await alice.context.setOffline(false);
    await has(alice.page, before + 1);
    await has(bob.page, before + 1);
    assert.deepEqual((await texts(bob.page))?.slice(-2), ["before", "while offline"]);
  });

  it("comes back when the gateway was killed, and sends what was written meanwhile once (P1, P2)", async () => {
    ground.expect(/ERR_|WebSocket connection to/);
    const bob = await ground.person("bob");
    await live(bob.page);
    const alice = await ground.person("alice");
    await live(alice.page);
    const before = (await texts(alice.page))?.length ?? 0;
    await ground.kill();
    await alice.page.evaluate(() =>
      parley.face?.until(({ connection }) => connection.t === "waiting"),
    );
    await send(alice.page, "to a dead server");
    await ground.start();
    await has(bob.page, before + 1);
    await has(alice.page, before + 1);
    assert.equal((await texts(bob.page))?.at(-1), "to a dead server");
    assert.deepEqual([await faults(alice.page), await faults(bob.page)], [[], []]);
  });
});
