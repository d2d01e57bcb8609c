/** What is said: text, pictures, ticks, replies, typing, history, as those who talk see it. */
import assert from "node:assert/strict";
import sharp from "sharp";
import { asked } from "../support/within.ts";
import { expect, gone } from "./expecting.ts";
import { begin, composer, message, open, row, say, tick } from "./flows.ts";
import { openGround } from "./ground.ts";

const picture = (red: number): Promise<Buffer> =>
  sharp({ create: { width: 320, height: 200, channels: 3, background: { r: red, g: 90, b: 160 } } })
    .png()
    .toBuffer();

describe("messages on the page", () => {
  const ground = openGround();

  it("go from sent to delivered to read", async () => {
    const alice = await ground.person("a1");
    await begin(alice.page, ["b1"]);
    await say(alice.page, "are you there?");
    await tick(alice.page, "are you there?", "Sent");
    const bob = await ground.person("b1");
    await expect(row(bob.page, "a1"), "the conversation at bob's");
    await tick(alice.page, "are you there?", "Delivered");
    await open(bob.page, "a1");
    await tick(alice.page, "are you there?", "Read");
  });

  it("tell in a group who got and who read them", async () => {
    const [alice, bob] = [await ground.person("a2"), await ground.person("b2")];
    await begin(alice.page, ["b2", "c2"], "Three");
    await say(alice.page, "news");
    await open(bob.page, "Three");
    await expect(message(bob.page, "news"), "the message at bob's");
    await message(alice.page, "news").hover();
    await message(alice.page, "news").getByRole("button", { name: "Who got it" }).click();
    const dialog = alice.page.getByRole("dialog");
    await expect(dialog.locator("section", { hasText: "Read by" }).getByText("b2"), "b2 read it");
    await expect(
      dialog.locator("section", { hasText: "Not yet" }).getByText("c2"),
      "c2 did not get it",
    );
  });

  it("show who is typing, and answers to what", async () => {
    const [alice, bob] = [await ground.person("a3"), await ground.person("b3")];
    await begin(alice.page, ["b3"]);
    await say(alice.page, "tea or coffee?");
    await open(bob.page, "a3");
    await composer(bob.page).pressSequentially("Te");
    await expect(alice.page.locator(".room-state", { hasText: "typing…" }), "that bob types");
    await message(bob.page, "tea or coffee?").hover();
    await message(bob.page, "tea or coffee?").getByRole("button", { name: "Reply" }).click();
    await say(bob.page, "Tea, please");
    const quote = message(alice.page, "Tea, please").getByRole("button", { name: /In answer to/ });
    await expect(quote.getByText("tea or coffee?"), "what it answers");
    await gone(alice.page.locator(".room-state", { hasText: "typing…" }), "that bob types");
  });

  it("carry pictures that were picked, dropped and pasted, with text, and show them large", async () => {
    const [alice, bob] = [await ground.person("a4"), await ground.person("b4")];
    await begin(alice.page, ["b4"]);
    await alice.page.locator("input[type=file]").setInputFiles([
      { name: "one.png", mimeType: "image/png", buffer: await picture(10) },
      { name: "two.png", mimeType: "image/png", buffer: await picture(200) },
    ]);
    const bytes = [...(await picture(120))];
    const transfer = await alice.page.evaluateHandle((numbers) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(numbers)], "three.png", { type: "image/png" }));
      return data;
    }, bytes);
    await alice.page.dispatchEvent(".room", "drop", { dataTransfer: transfer });
    await expect(
      alice.page.getByRole("button", { name: "Take out three.png" }),
      "an uploaded picture",
    );
    await alice.page.getByRole("button", { name: "Take out two.png" }).click();
    await composer(alice.page).evaluate((field, data) => {
      const how = { clipboardData: data, bubbles: true, cancelable: true };
      field.dispatchEvent(new ClipboardEvent("paste", how));
    }, transfer);
    await expect(
      alice.page.getByRole("button", { name: "Take out three.png" }).nth(1),
      "the pasted one",
    );
    await alice.page.getByRole("button", { name: "Take out three.png" }).nth(1).click();
    await composer(alice.page).fill("two of them");
    await alice.page.locator(".send:enabled").click();
    await open(bob.page, "a4");
    const photos = message(bob.page, "two of them").getByRole("button", {
      name: /Open the picture/,
    });
    await expect(photos.nth(1).locator("img:not(.blurred)"), "the second picture");
    assert.equal(await photos.count(), 2);
    await photos.first().click();
    await expect(bob.page.getByRole("dialog").getByAltText("one.png"), "the picture, large");
    await bob.page.keyboard.press("ArrowRight");
    await expect(bob.page.getByRole("dialog").getByAltText("three.png"), "the next one");
    await bob.page.keyboard.press("Escape");
    await gone(bob.page.getByRole("dialog"), "the viewer");
  });

  it("whose picture fails can be tried again or cancelled", async () => {
    const alice = await ground.person("a5");
    await begin(alice.page, ["b5"]);
    ground.expect(/Failed to load resource/);
    await alice.page.route("**/media?*", (route) => route.abort());
    await alice.page
      .locator("input[type=file]")
      .setInputFiles({ name: "one.png", mimeType: "image/png", buffer: await picture(10) });
    const again = alice.page.getByRole("button", { name: /Try one.png again/ });
    await expect(again, "the way to try again");
    await alice.page.unroute("**/media?*");
    await again.click();
    await expect(alice.page.locator(".picture.done"), "the picture, uploaded");
    await alice.page.getByRole("button", { name: "Take out one.png" }).click();
    await gone(alice.page.locator(".picture"), "the picture");
  });

  it("show how far a picture's upload is", async () => {
    const alice = await ground.person("a8");
    await begin(alice.page, ["b8"]);
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    await alice.page.route("**/media?*", async (route) => {
      await gate;
      await route.continue();
    });
    await alice.page
      .locator("input[type=file]")
      .setInputFiles({ name: "one.png", mimeType: "image/png", buffer: await picture(10) });
    await expect(alice.page.getByRole("progressbar", { name: /^one.png: \d+%$/ }), "how far");
    go();
    await expect(alice.page.locator(".picture.done"), "the picture, uploaded");
    await gone(alice.page.getByRole("progressbar"), "how far");
  });

  it("lead from an answer to what it answers", async () => {
    const [alice, bob] = [await ground.person("a9"), await ground.person("b9")];
    await begin(alice.page, ["b9"]);
    await say(alice.page, "tea or coffee?");
    for (let number = 1; number <= 60; number++) await say(alice.page, `line ${number}`);
    await tick(alice.page, "line 60", "Delivered");
    const sender = await ground.client("b9");
    await sender.send({ user: "a9" }, { text: "Tea, please", replyToSeq: 1 }).sent;
    await open(bob.page, "a9");
    await bob.page
      .getByRole("log")
      .getByRole("button", { name: /In answer to/ })
      .first()
      .click();
    await expect(message(bob.page, "tea or coffee?").first(), "what it answers");
  });

  it("that were too many to fetch while away are named, and shown where asked for (P3)", async () => {
    const [writer, bob] = [await ground.client("a10"), await ground.person("b10")];
    await writer.send({ user: "b10" }, "before").sent;
    await open(bob.page, "a10");
    await expect(message(bob.page, "before"), "what was there before");
    ground.expect(/ERR_|WebSocket connection to/);
    await bob.context.setOffline(true);
    await expect(bob.page.getByRole("status").getByText(/What you write waits/), "it is away");
    for (let at = 0; at < 600; at += 100) {
      const some = Array.from({ length: 100 }, (_, more) =>
        writer.send({ user: "b10" }, `while away ${at + more + 1},`),
      );
      await Promise.all(some.map(({ sent }) => sent));
    }
    await bob.context.setOffline(false);
    const log = bob.page.getByRole("log");
    const hole = log.getByRole("button", { name: /messages in between: show/ });
    await expect(message(bob.page, "while away 600,"), "the newest");
    await log.hover();
    await asked(20_000, "how many are missing", async () => {
      await bob.page.mouse.wheel(0, -2_000);
      return (await hole.count()) > 0 ? true : undefined;
    });
    assert.equal(await message(bob.page, "while away 1,").count(), 0);
    await hole.first().click();
    await asked(20_000, "what was missing", async () => {
      await bob.page.mouse.wheel(0, -2_000);
      return (await message(bob.page, "while away 1,").count()) > 0 ? true : undefined;
    });
  });

  it("run nothing and link only to the web", async () => {
    const [alice, bob] = [await ground.person("a6"), await ground.person("b6")];
    await begin(alice.page, ["b6"]);
    await say(
      alice.page,
      '<img src=x onerror="globalThis.ran=1"> javascript:alert(1) https://a.example/x?y=1.',
    );
    await open(bob.page, "a6");
    const links = message(bob.page, "onerror").getByRole("link");
    await expect(links, "the link");
    assert.equal(await links.count(), 1);
    assert.equal(await links.getAttribute("href"), "https://a.example/x?y=1");
    assert.match((await links.getAttribute("rel")) ?? "", /noopener noreferrer/);
    assert.equal(await bob.page.evaluate(() => "ran" in globalThis), false);
  });

  it("that are unread stand below a divider; there is a way to the newest", async () => {
    const [alice, bob] = [await ground.person("a7"), await ground.person("b7")];
    await begin(alice.page, ["b7"]);
    await say(alice.page, "read already");
    await open(bob.page, "a7");
    await tick(alice.page, "read already", "Read");
    await expect(bob.page.getByRole("log").getByText("Today"), "the day");
    await bob.page.evaluate(() => (location.hash = "#/"));
    for (let number = 1; number <= 40; number++) await say(alice.page, `line ${number}`);
    await expect(row(bob.page, "a7").getByText("40 unread"), "forty unread");
    await open(bob.page, "a7");
    await expect(bob.page.getByText("New messages"), "the divider");
    await expect(message(bob.page, "line 1").first(), "the first unread one");
    await bob.page.getByRole("button", { name: /Jump to the newest/ }).click();
    await expect(message(bob.page, "line 40"), "the newest one");
    await gone(row(bob.page, "a7").getByText("unread"), "unread");
  });
});
