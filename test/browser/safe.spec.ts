/** Nothing that anybody writes becomes part of the page, whatever the field. */
import assert from "node:assert/strict";
import type { Page } from "playwright-core";
import { picture } from "../support/pictures.ts";
import { openGround } from "./ground.ts";

const attacks = [
  `<img src=x onerror="globalThis.harmed = true">`,
  `<script>globalThis.harmed = true</script>`,
  `"><svg/onload=globalThis.harmed=true>`,
  `javascript:globalThis.harmed=true`,
  `[click](javascript:globalThis.harmed=true)`,
  `http://a.example/" onmouseover="globalThis.harmed=true`,
  `data:text/html,<script>globalThis.harmed=true</script>`,
  `{{constructor.constructor('globalThis.harmed=true')()}}`,
];

/** Fails where something written ran, or became an element, a link of another kind, a frame. */
async function unharmed(page: Page): Promise<void> {
  const found = await page.evaluate(() => ({
    ran: "harmed" in globalThis,
    elements: document.querySelectorAll("img[src=x], svg[onload], iframe, object, embed, base")
      .length,
    scripts: [...document.scripts].filter(({ src }) => !src.startsWith(location.origin)).length,
    handlers: [...document.querySelectorAll("*")].filter((element) =>
      element.getAttributeNames().some((name) => name.startsWith("on")),
    ).length,
    links: [...document.querySelectorAll("a[href]")]
      .map((link) => link.getAttribute("href") ?? "")
      .filter((href) => !/^(https?:|mailto:|#\/)/u.test(href)),
  }));
  assert.deepEqual(found, { ran: false, elements: 0, scripts: 0, handlers: 0, links: [] });
}

describe("what people write, on the page", () => {
  const ground = openGround();

  it("is looked for by a check that finds it", async () => {
    ground.expect(/Content Security Policy/);
    const page = await (await ground.context()).newPage();
    await page.goto(ground.url);
    await unharmed(page);
    await page.evaluate(() => {
      const link = document.createElement("a");
      link.href = "javascript:0";
      link.setAttribute("onclick", "0");
      document.body.append(link, document.createElement("iframe"));
    });
    await assert.rejects(unharmed(page), /handlers: 1/);
  });

  it("stays text in messages, in the list, and in what answers quote", async () => {
    const mallory = await ground.client("mallory");
    let seq = 0;
    for (const text of attacks)
      ({ seq } = await mallory.send({ user: "alice" }, { text, replyToSeq: seq }).sent);
    const alice = await ground.person("alice");
    await alice.page.goto(`${ground.url}/#/d:alice:mallory`);
    for (const text of attacks)
      await alice.page.getByRole("log").getByText(text, { exact: true }).first().waitFor();
    await unharmed(alice.page);
    for (const link of await alice.page.getByRole("log").getByRole("link").all()) {
      assert.match((await link.getAttribute("rel")) ?? "", /noopener/);
    }
  });

  it("stays text in the titles of groups and the names of files", async () => {
    const mallory = await ground.client("mallory");
    const [title = ""] = attacks;
    const group = await mallory.createGroup(title, ["bob"]);
    for (const text of attacks.slice(0, 3)) await mallory.updateGroup(group.id, { title: text });
    const attached = await mallory.uploadMedia(group.id, await picture("png"), attacks[0]);
    await mallory.send({ conversation: group.id }, { text: "see", attachments: [attached] }).sent;
    const bob = await ground.person("bob");
    await bob.page.goto(`${ground.url}/#/${encodeURIComponent(group.id)}`);
    await bob.page.getByRole("log").getByText("see", { exact: true }).waitFor();
    await bob.page
      .getByText(attacks[2] ?? "")
      .first()
      .waitFor();
    await unharmed(bob.page);
  });

  it("stays text where it comes from the reader: name, search, message, address", async () => {
    const context = await ground.context();
    const page = await context.newPage();
    await page.goto(`${ground.url}/#/d:${encodeURIComponent(attacks[0] ?? "")}`);
    const name = page.getByRole("textbox").first();
    for (const text of attacks) {
      await name.fill(text);
      await name.press("Enter");
    }
    await unharmed(page);
    const carol = await ground.person("carol");
    await ground.client("dave").then((dave) => dave.send({ user: "carol" }, "hello").sent);
    await carol.page.goto(`${ground.url}/#/d:carol:dave`);
    const composer = carol.page.getByRole("textbox", { name: "Message" });
    for (const text of attacks) {
      await composer.fill(text);
      await composer.press("Enter");
      await carol.page.getByRole("log").getByText(text, { exact: true }).first().waitFor();
    }
    await carol.page
      .getByRole("searchbox")
      .or(carol.page.getByLabel("Find a conversation"))
      .first()
      .fill(attacks[0] ?? "");
    await carol.page.goto(`${ground.url}/#/g:${encodeURIComponent(attacks[2] ?? "")}`);
    await unharmed(carol.page);
  });
});
