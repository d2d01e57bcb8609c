/** The page for everybody: by keyboard alone, for screen readers, in any writing, on a phone, light and dark, without telling too much. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { expect, gone, type Page } from "./expecting.ts";
import { atHome, begin, message, row, say } from "./flows.ts";
import { openGround } from "./ground.ts";

const axePath = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** What axe finds wrong, one line each. */
async function violations(page: Page): Promise<string[]> {
  // The policy refuses added scripts; what the debugger evaluates is not one.
  await page.evaluate(await readFile(axePath, "utf8"));
  return page.evaluate(async () => {
    const found: unknown = await Reflect.get(globalThis, "axe").run(document, {
      resultTypes: ["violations"],
    });
    const { violations: all } = found as {
      violations: { id: string; nodes: { html: string; failureSummary?: string }[] }[];
    };
    return all.flatMap(({ id, nodes }) =>
      nodes.map((node) => `${id}: ${node.html.slice(0, 160)} ${node.failureSummary ?? ""}`),
    );
  });
}

describe("the page for people", () => {
  const ground = openGround();

  for (const colorScheme of ["light", "dark"] as const) {
    it(`has no fault that axe finds in any view, ${colorScheme}`, async () => {
      const context = await ground.context();
      const page = await context.newPage();
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.goto(ground.url);
      await page.getByLabel("Your name").waitFor();
      assert.deepEqual(await violations(page), [], "signing in");
      await page.getByLabel("Your name").fill(`axe.${colorScheme}`);
      await page.keyboard.press("Enter");
      await atHome(page);
      assert.deepEqual(await violations(page), [], "no conversation");
      await page.getByRole("button", { name: "New conversation" }).first().click();
      assert.deepEqual(await violations(page), [], "a new conversation");
      await page.keyboard.press("Escape");
      await begin(page, ["x", "y"], "Group");
      await say(page, "see https://example.org and tell me");
      await message(page, "see").hover();
      assert.deepEqual(await violations(page), [], "a conversation");
      await message(page, "see").getByRole("button", { name: "Who got it" }).click();
      assert.deepEqual(await violations(page), [], "who got it");
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Members and details" }).click();
      assert.deepEqual(await violations(page), [], "members");
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: /^Settings of/ }).click();
      assert.deepEqual(await violations(page), [], "settings");
    });
  }

  it("can be used by keyboard from end to end", async () => {
    const page = await (await ground.context()).newPage();
    const { keyboard } = page;
    await page.goto(ground.url);
    await page.getByLabel("Your name").waitFor();
    await keyboard.type("k1");
    await keyboard.press("Enter");
    await atHome(page);
    await keyboard.press("Control+k");
    await keyboard.press("Shift+Tab");
    await keyboard.press("Enter");
    await page.getByLabel("With whom?").waitFor();
    await keyboard.type("k2");
    await keyboard.press("Enter");
    await expect(page.getByRole("button", { name: "Take out k2" }), "the name as chosen");
    await keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name: "k2" }).waitFor();
    await keyboard.type("one");
    await keyboard.press("Enter");
    await keyboard.type("two");
    await keyboard.press("Enter");
    await expect(message(page, "two"), "what was sent");
    await keyboard.press("ArrowUp");
    await expect(
      page.locator("[role=article]:focus", { hasText: "two" }),
      "the focus on the last message",
    );
    await keyboard.press("ArrowUp");
    await expect(
      page.locator("[role=article]:focus", { hasText: "one" }),
      "the focus on the one before",
    );
    await keyboard.press("r");
    await keyboard.type("an answer");
    await keyboard.press("Enter");
    await expect(
      message(page, "an answer").getByRole("button", { name: /In answer to\s+You\s+one/ }),
      "the answer",
    );
    await keyboard.press("Control+k");
    await keyboard.press("ArrowDown");
    await expect(page.locator(".row:focus"), "the focus on a conversation");
  });

  it("shows the list or the conversation on a phone, and the way back", async () => {
    const alice = await ground.person("p1");
    await alice.page.setViewportSize({ width: 375, height: 700 });
    await begin(alice.page, ["p2"]);
    await say(alice.page, "on the way");
    assert.equal(await row(alice.page, "p2").isVisible(), false);
    await alice.page.getByRole("button", { name: "Back to the conversations" }).click();
    await expect(row(alice.page, "p2"), "the list");
    const wide = await alice.page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    assert.equal(wide, false, "the page is wider than the phone");
  });

  it("writes each message in its own direction, and emoji large", async () => {
    const alice = await ground.person("r1");
    await begin(alice.page, ["r2"]);
    await say(alice.page, "שלום לכולם");
    await say(alice.page, "👩‍👩‍👧 🎉");
    const direction = await message(alice.page, "שלום")
      .locator(".text")
      .evaluate((text) => getComputedStyle(text).direction);
    assert.equal(direction, "rtl");
    await expect(alice.page.locator(".message.big"), "emoji, large");
  });

  it("tells of messages while it is hidden, not what they say unless allowed", async () => {
    const bob = await ground.person("n2");
    await bob.page.addInitScript(() => {
      const told: string[] = [];
      class Notice extends EventTarget {
        static permission = "granted";
        static requestPermission = () => Promise.resolve("granted");
        constructor(title: string, { body }: { body: string }) {
          super();
          told.push(`${title}|${body}`);
        }
      }
      Object.assign(globalThis, { Notification: Notice, told });
      Object.defineProperty(document, "hidden", { get: () => true });
      Object.defineProperty(document, "visibilityState", { get: () => "hidden" });
    });
    await bob.page.reload();
    await atHome(bob.page);
    const alice = await ground.person("n1");
    await begin(alice.page, ["n2"]);
    await say(alice.page, "a secret");
    await expect(row(bob.page, "n1").getByText("1 unread"), "the message in the list");
    const told = (): Promise<unknown> => bob.page.evaluate(() => Reflect.get(globalThis, "told"));
    assert.deepEqual(await told(), ["n1|New message"]);
    assert.equal(await bob.page.title(), "(1) Parley");
    await bob.page.getByRole("button", { name: "Settings of n2" }).click();
    await bob.page.getByLabel(/Show what messages say/).check();
    await bob.page.keyboard.press("Escape");
    await say(alice.page, "no secret");
    await expect(row(bob.page, "n1").getByText("2 unread"), "the second message");
    assert.deepEqual(await told(), ["n1|New message", "n1|no secret"]);
  });

  it("follows the reader's choice of colours", async () => {
    const alice = await ground.person("t1");
    await alice.page.getByRole("button", { name: "Settings of t1" }).click();
    const surface = (): Promise<string> =>
      alice.page.evaluate(
        () => getComputedStyle(document.querySelector(".sidebar") ?? document.body).backgroundColor,
      );
    const before = await surface();
    await alice.page.getByText("Dark", { exact: true }).click();
    assert.notEqual(await surface(), before);
    await alice.page.reload();
    await atHome(alice.page);
    assert.notEqual(await surface(), before);
    await gone(alice.page.getByRole("dialog"), "the settings");
  });
});
