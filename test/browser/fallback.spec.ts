/** Where WebSockets are blocked the page talks by Connect streams, where those are held back by long polls; and better again later. */
import assert from "node:assert/strict";
import type { Page } from "playwright-core";
import { openBlockingProxy, type Blocked, type BlockingProxy } from "./blocking-proxy.ts";
import { openGround } from "./ground.ts";

const carrier = (page: Page): Promise<string | undefined> =>
  page.evaluate(async () => {
    await parley.face?.until(({ synced }) => synced);
    return parley.face?.carrier;
  });

const say = (page: Page, conversation: string, text: string): Promise<void> =>
  page.evaluate(
    async ([to, said]) =>
      void (await parley.face?.session.send({ conversation: to }, { text: said })),
    [conversation, text] as const,
  );

const until = (page: Page, conversation: string, last: string): Promise<void> =>
  page.evaluate(([of, wanted]) => parley.face?.until((face) => face.texts(of).at(-1) === wanted), [
    conversation,
    last,
  ] as const);

describe("the page behind a proxy", () => {
  const ground = openGround("fixture");
  let proxy: BlockingProxy | undefined;
  afterEach(async () => {
    await proxy?.close();
    proxy = undefined;
  });

  async function behind(...blocked: Blocked[]): Promise<string> {
    proxy = await openBlockingProxy(ground.url, new Set(blocked));
    return proxy.url;
  }

  it("talks by WebSocket where nothing is blocked", async () => {
    const alice = await ground.person("alice", await behind());
    assert.equal(await carrier(alice.page), "websocket");
  });

  it("talks by a Connect stream where WebSockets are blocked, remembers that, and goes up again later", async function () {
    this.timeout(180_000);
    ground.expect(/WebSocket connection to|ERR_/);
    const url = await behind("websocket");
    const carol = await ground.person("carol", url);
    const dave = await ground.person("dave");
    assert.equal(await carrier(carol.page), "connect");
    assert.equal(await carrier(dave.page), "websocket");
    await say(carol.page, "d:carol:dave", "around the block");
    await until(dave.page, "d:carol:dave", "around the block");
    await say(dave.page, "d:carol:dave", "and back");
    await until(carol.page, "d:carol:dave", "and back");

    let sockets = 0;
    carol.page.on("websocket", () => (sockets += 1));
    await carol.page.reload();
    await carol.page.locator("body[data-ready]").waitFor({ state: "attached" });
    assert.equal(await carrier(carol.page), "connect");
    assert.equal(sockets, 0, "it tried what is blocked before what worked");

    proxy?.blocked.clear();
    await carol.page.evaluate(() =>
      parley.face?.until((face) => face.synced && face.carrier === "websocket"),
    );
    await say(dave.page, "d:carol:dave", "by the best way");
    await until(carol.page, "d:carol:dave", "by the best way");
  });

  it("talks by long polls where streams are held back, too", async function () {
    this.timeout(120_000);
    ground.expect(/WebSocket connection to|ERR_/);
    const erin = await ground.person("erin", await behind("websocket", "stream"));
    const frank = await ground.person("frank");
    assert.equal(await carrier(erin.page), "poll");
    await carrier(frank.page);
    await say(erin.page, "d:erin:frank", "slowly");
    await until(frank.page, "d:erin:frank", "slowly");
    await say(frank.page, "d:erin:frank", "but surely");
    await until(erin.page, "d:erin:frank", "but surely");
  });
});
