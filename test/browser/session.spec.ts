/** Under the page: one connection for all tabs of an account, what is read and written while offline, and the ways around what is blocked. */
import assert from "node:assert/strict";
import type { Page } from "playwright-core";
import { openGround, type Person } from "./ground.ts";

const live = (page: Page): Promise<void> =>
  page.evaluate(() => parley.face?.until(({ synced }) => synced));

const send = (page: Page, conversation: string, text: string): Promise<string | undefined> =>
  page.evaluate(
    async ([to, said]) => parley.face?.session.send({ conversation: to }, { text: said }),
    [conversation, text] as const,
  );

/** Resolves once the tab has this message; gives all texts of the conversation by then. */
const until = (page: Page, conversation: string, last: string): Promise<string[]> =>
  page.evaluate(
    async ([of, wanted]) => {
      await parley.face?.until((face) => face.texts(of).at(-1) === wanted);
      return parley.face?.texts(of) ?? [];
    },
    [conversation, last] as const,
  );

const waits = (page: Page): Promise<void> =>
  page.evaluate(() => parley.face?.until(({ connection }) => connection.t === "waiting"));

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

  /** Two people of this test alone, both connected. */
  async function pair(
    one: string,
    other: string,
  ): Promise<{ alice: Person; bob: Person; conversation: string }> {
    const [alice, bob] = [await ground.person(one), await ground.person(other)];
    await live(alice.page);
    await live(bob.page);
    return { alice, bob, conversation: `d:${one}:${other}` };
  }

  it("shares one connection among tabs, and they agree", async () => {
    const { alice, bob, conversation } = await pair("alice", "bob");
    const second = await alice.context.newPage();
    const sockets = countSockets(second);
    await ground.signIn(second, "alice");
    await live(second);
    await send(alice.page, conversation, "from the first tab");
    await until(bob.page, conversation, "from the first tab");
    await send(second, conversation, "from the second tab");
    await until(bob.page, conversation, "from the second tab");
    await send(bob.page, conversation, "from Bob");
    const told = await until(alice.page, conversation, "from Bob");
    assert.deepEqual(told, ["from the first tab", "from the second tab", "from Bob"]);
    assert.deepEqual(await until(second, conversation, "from Bob"), told);
    assert.equal(sockets(), 0);
    assert.deepEqual([await faults(alice.page), await faults(second)], [[], []]);
  });

  it("goes on in the next tab when the connected one is closed: nothing lost, nothing doubled (P1, P2)", async () => {
    const { alice, bob, conversation } = await pair("carol", "dave");
    const second = await alice.newTab();
    await live(second);
    const sends = second.evaluate(async (to) => {
      for (let at = 0; at < 40; at += 1) {
        await parley.face?.session.send({ conversation: to }, { text: String(at) });
        await new Promise((turn) => requestAnimationFrame(turn));
      }
    }, conversation);
    await until(second, conversation, "4");
    await alice.page.close();
    await sends;
    const wanted = Array.from({ length: 40 }, (_, at) => String(at));
    assert.deepEqual(await until(bob.page, conversation, "39"), wanted);
    assert.deepEqual(await until(second, conversation, "39"), wanted);
    await second.evaluate(() => parley.face?.until(({ pending }) => pending.size === 0));
    assert.deepEqual(await faults(bob.page), []);
  });

  it("takes the connection away from a tab that is frozen, and goes on", async () => {
    const { alice, bob, conversation } = await pair("erin", "frank");
    const second = await alice.newTab();
    await live(second);
    // A tab that hangs: its timers, its locks and its channel with it.
    const frozen = await alice.context.newCDPSession(alice.page);
    await frozen.send("Debugger.enable");
    await frozen.send("Debugger.pause");
    const hangs = alice.page.evaluate(() => undefined).catch(() => undefined);
    await send(second, conversation, "over the frozen one");
    await until(bob.page, conversation, "over the frozen one");
    await frozen.send("Debugger.resume").catch(() => undefined);
    await frozen.detach();
    await hangs;
    assert.deepEqual(await until(alice.page, conversation, "over the frozen one"), [
      "over the frozen one",
    ]);
    await send(alice.page, conversation, "awake again");
    await until(bob.page, conversation, "awake again");
  });

  it("shows what was loaded and keeps what is written while offline, over a reload; then it goes out once (P2)", async () => {
    ground.expect(/ERR_|WebSocket connection to/);
    const { alice, bob, conversation } = await pair("grace", "heidi");
    await send(alice.page, conversation, "before");
    await until(bob.page, conversation, "before");
    // From then on the page opens offline.
    await alice.page.evaluate(async () => void (await navigator.serviceWorker.ready));
    await alice.context.setOffline(true);
    await waits(alice.page);
    await send(alice.page, conversation, "while offline");
    const kept = await alice.page.evaluate(async (of) => {
      const found = await parley.face?.session.history(of, { limit: 10 });
      return found?.entries.map(({ body }) => (body.t === "message" ? body.text : ""));
    }, conversation);
    assert.deepEqual(kept, ["before"]);
    await alice.page.reload();
    await alice.page.locator("body[data-ready]").waitFor({ state: "attached" });
    assert.deepEqual(await until(alice.page, conversation, "before"), ["before"]);
    await alice.page.evaluate(() => parley.face?.until(({ pending }) => pending.size === 1));
    await alice.context.setOffline(false);
    for (const page of [alice.page, bob.page])
      assert.deepEqual(await until(page, conversation, "while offline"), [
        "before",
        "while offline",
      ]);
  });

  it("comes back when the gateway was killed, and sends what was written meanwhile once, over a new tab too (P1, P2)", async function () {
    this.timeout(180_000);
    ground.expect(/ERR_|WebSocket connection to/);
    const { alice, bob, conversation } = await pair("ivan", "judy");
    const second = await alice.newTab();
    await live(second);
    await ground.kill();
    await waits(second);
    await send(second, conversation, "to a dead server");
    // Whoever had it under way is gone, too.
    await alice.page.close();
    await ground.start();
    for (const page of [bob.page, second])
      assert.deepEqual(await until(page, conversation, "to a dead server"), ["to a dead server"]);
    assert.deepEqual([await faults(second), await faults(bob.page)], [[], []]);
  });

  it("shows what a server has that was restored from a backup, in all tabs, where it had seen more (P3)", async function () {
    this.timeout(180_000);
    ground.expect(/ERR_|WebSocket connection to/);
    const { alice, bob, conversation } = await pair("kim", "lou");
    const second = await alice.newTab();
    await live(second);
    await send(bob.page, conversation, "kept");
    for (const page of [alice.page, second]) await until(page, conversation, "kept");
    await ground.backUp();
    await send(bob.page, conversation, "lost");
    await send(bob.page, conversation, "lost too");
    for (const page of [alice.page, second]) await until(page, conversation, "lost too");
    await ground.kill();
    await ground.restore();
    await ground.start();
    await (await ground.client("lou")).send({ user: "kim" }, "new").sent;
    for (const page of [alice.page, second, bob.page])
      assert.deepEqual(await until(page, conversation, "new"), ["kept", "new"]);
    assert.deepEqual([await faults(alice.page), await faults(second)], [[], []]);
  });
});
