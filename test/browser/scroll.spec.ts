/** Smooth with 100,000 messages, in place when older ones come, usable while many arrive, and light to load. */
import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { createNodeClient } from "../../client/node.ts";
import type { ParleyClient } from "../../client/index.ts";
import { expect, type Page } from "./expecting.ts";
import { atHome, message, open, say } from "./flows.ts";
import { openGround } from "./ground.ts";

const frameMs = 50;
const jsBytesMax = 120 * 1024;

async function clientOf(url: string, user: string): Promise<ParleyClient> {
  const response = await fetch(`${url}/development-token`, {
    method: "POST",
    headers: { "content-type": "application/json", origin: url },
    body: JSON.stringify({ user }),
  });
  const said: unknown = await response.json();
  assert.ok(typeof said === "object" && said !== null && "token" in said, "no token");
  const limits = { outboxMessagesMax: 200_000, outboxBytesMax: 2 ** 28, sendsUnderWayMax: 512 };
  const client = createNodeClient({ url, token: String(said.token), limits });
  client.connect();
  await client.ready();
  return client;
}

/** The time between frames from now on until it is asked for. */
async function watchFrames(page: Page): Promise<() => Promise<number[]>> {
  await page.evaluate(() => {
    const frames: number[] = [];
    let last = performance.now();
    const frame = (now: number): void => {
      frames.push(now - last);
      last = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
    Object.assign(globalThis, { frames });
  });
  return async () => {
    const frames: unknown = await page.evaluate(() => Reflect.get(globalThis, "frames"));
    assert.ok(Array.isArray(frames));
    return frames.map(Number).toSorted((a, b) => b - a);
  };
}

describe("a long conversation on the page", () => {
  const ground = openGround("page", {
    PARLEY_RATE_PER_SECOND: "1000000",
    PARLEY_BYTES_PER_SECOND: "1000000000",
  });

  it("of 100,000 messages scrolls smoothly", async function () {
    this.timeout(240_000);
    const writer = await clientOf(ground.url, "writer");
    const sent = Array.from({ length: 100_000 }, (_, at) =>
      writer.send({ user: "reader" }, `message ${at + 1} ${"word ".repeat(at % 30)}`),
    );
    await sent.at(-1)?.sent;
    await writer.close();
    const { page } = await ground.person("reader");
    await open(page, "writer");
    await page.getByRole("button", { name: /Jump to the newest/ }).click();
    await expect(message(page, "message 100000"), "the newest message");
    await page.mouse.move(700, 400);
    const frames = await watchFrames(page);
    for (let wheel = 0; wheel < 60; wheel++) {
      await page.mouse.wheel(0, -700);
      await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
    }
    const taken = await frames();
    const first = Number(await page.locator("[data-seq]").first().getAttribute("data-seq"));
    console.log(
      `      ${taken.length} frames, the longest: ${taken
        .slice(0, 3)
        .map((ms) => Math.round(ms))
        .join(", ")} ms, at #${first}`,
    );
    assert.ok(first < 99_900, "it did not scroll");
    assert.ok((taken[0] ?? 0) <= frameMs, `a frame took ${taken[0]} ms`);
  });

  it("keeps its place when older messages come", async () => {
    const writer = await clientOf(ground.url, "w2");
    await Promise.all(
      Array.from({ length: 400 }, (_, at) => writer.send({ user: "r2" }, `old ${at + 1}`).sent),
    );
    await writer.close();
    const { page } = await ground.person("r2");
    await open(page, "w2");
    await page.getByRole("button", { name: /Jump to the newest/ }).click();
    await expect(message(page, "old 400"), "the newest message");
    // Where messages on screen are, just before and after a page came.
    const moved = await page.evaluate(async () => {
      const box = document.querySelector(".scroller");
      if (box === null) return [];
      const places = (): Map<string, number> =>
        new Map(
          [...box.querySelectorAll<HTMLElement>("[data-seq]")].map((one) => [
            one.dataset["seq"] ?? "",
            one.getBoundingClientRect().top,
          ]),
        );
      const jumps: number[] = [];
      let height = box.scrollHeight;
      let before = places();
      let by = 0;
      for (let frame = 0; frame < 200; frame++) {
        by = Math.min(120, box.scrollTop);
        box.scrollTop -= by;
        await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
        const now = places();
        if (box.scrollHeight > height + 500) {
          for (const [seq, top] of now) {
            const was = before.get(seq);
            if (was !== undefined) jumps.push(Math.abs(top - was - by));
          }
        }
        height = box.scrollHeight;
        before = now;
      }
      return jumps;
    });
    assert.ok(moved.length > 0, "no page came");
    assert.ok(Math.max(...moved) <= 2, `a message jumped by ${Math.max(...moved)} pixels`);
  });

  it("can be written in while 50 messages a second arrive", async () => {
    const writer = await clientOf(ground.url, "w3");
    const { page } = await ground.person("r3");
    await writer.send({ user: "r3" }, "begin").sent;
    await open(page, "w3");
    let stopped = false;
    const flood = (async () => {
      for (let at = 0; !stopped && at < 1_000; at++) {
        await writer.send({ user: "r3" }, `flood ${at}`).sent;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    })();
    await expect(message(page, "flood 20"), "the flood");
    const began = performance.now();
    await say(page, "in between");
    await expect(message(page, "in between"), "the own message");
    const tookMs = performance.now() - began;
    stopped = true;
    await flood;
    await writer.close();
    assert.ok(tookMs < 3_000, `writing took ${tookMs} ms`);
  });

  it("loads less than 120 KiB of gzipped JavaScript at first", async () => {
    const page = await (await ground.context()).newPage();
    const scripts: Promise<Buffer>[] = [];
    page.on("response", (response) => {
      const type = response.headers()["content-type"] ?? "";
      if (type.includes("javascript")) scripts.push(response.body());
    });
    await page.goto(ground.url);
    await page.getByLabel("Your name").fill("light");
    await page.keyboard.press("Enter");
    await atHome(page);
    const sizes = (await Promise.all(scripts)).map((body) => gzipSync(body, { level: 9 }).length);
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    console.log(`      ${(bytes / 1024).toFixed(1)} KiB of gzipped JavaScript`);
    assert.ok(sizes.length > 0, "no script was seen");
    assert.ok(bytes < jsBytesMax, `${bytes} bytes`);
  });
});
