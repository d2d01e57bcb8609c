/** Scrolling in a conversation that is longer than what is loaded. */
import assert from "node:assert/strict";
import { createNodeClient } from "../../client/node.ts";
import type { ParleyClient } from "../../client/index.ts";
import { expect } from "./expecting.ts";
import { message, open } from "./flows.ts";
import { openGround } from "./ground.ts";

async function clientOf(url: string, user: string): Promise<ParleyClient> {
  const response = await fetch(`${url}/development-token`, {
    method: "POST",
    headers: { "content-type": "application/json", origin: url },
    body: JSON.stringify({ user }),
  });
  const said: unknown = await response.json();
  assert.ok(typeof said === "object" && said !== null && "token" in said, "no token");
  const client = createNodeClient({ url, token: String(said.token) });
  client.connect();
  await client.ready();
  return client;
}

describe("a long conversation on the page", () => {
  const ground = openGround();

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
});
