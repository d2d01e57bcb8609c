/** A user whose data are erased, as the others see it: at once, and after the page was opened anew. */
import assert from "node:assert/strict";
import type { Page } from "playwright-core";
import { expect, gone } from "./expecting.ts";
import { begin, composer, message, open, row, say, tick } from "./flows.ts";
import { openGround } from "./ground.ts";

const left = "Erased: its sender has left for good";
const told = "Messages of somebody who has left for good were erased";

/** All that the page keeps in the browser, as text. */
const kept = (page: Page): Promise<string> =>
  page.evaluate(async () => {
    const answer = <T>(request: IDBRequest<T>): Promise<T> =>
      new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(new Error(String(request.error)));
      });
    const all: unknown[] = [];
    for (const { name } of await indexedDB.databases()) {
      const database = await answer(indexedDB.open(name ?? ""));
      for (const store of database.objectStoreNames)
        all.push(await answer(database.transaction(store).objectStore(store).getAll()));
      database.close();
    }
    const decoder = new TextDecoder("latin1");
    return JSON.stringify(all, (_, value: unknown) =>
      ArrayBuffer.isView(value) ? decoder.decode(value) : value,
    );
  });

describe("what is erased, on the page", () => {
  const ground = openGround();

  it("goes from a group while it is looked at: texts, answers' quotes, the list, the members, the browser's store", async () => {
    const bob = await ground.person("b1");
    await begin(bob.page, ["mallory1", "c1"], "Friends");
    await say(bob.page, "hello all");
    const mallory = await ground.client("mallory1");
    const [view] = mallory.conversations();
    assert.ok(view);
    await mallory.send({ conversation: view.id }, "secret one").sent;
    await expect(message(bob.page, "secret one"), "the message");
    await message(bob.page, "secret one").hover();
    await message(bob.page, "secret one").getByRole("button", { name: "Reply" }).click();
    await say(bob.page, "is that so?");
    await tick(bob.page, "is that so?", "Sent");
    await mallory.send({ conversation: view.id }, "secret two").sent;
    await expect(row(bob.page, "Friends").getByText("secret two"), "the newest in the list");
    assert.match(await kept(bob.page), /secret one/);
    await ground.erase("mallory1");
    const log = bob.page.getByRole("log");
    await expect(log.getByText(left).nth(1), "both, erased");
    await expect(log.getByText(told), "that they were");
    await expect(message(bob.page, "is that so?").getByText("A message that was erased"), "quote");
    await gone(log.getByText("secret"), "what they said");
    await gone(row(bob.page, "Friends").getByText("secret"), "it in the list");
    await bob.page
      .getByRole("button", { name: /members/i })
      .first()
      .click();
    await expect(bob.page.getByRole("dialog").getByText("c1"), "who is left");
    assert.equal(await bob.page.getByRole("dialog").getByText("mallory1").count(), 0);
    await bob.page.keyboard.press("Escape");
    assert.doesNotMatch(await kept(bob.page), /secret/);
    await bob.page.reload();
    await expect(log.getByText(left).nth(1), "both, erased, after a reload");
    assert.equal(await log.getByText("secret").count(), 0);
    // The others go on.
    await say(bob.page, "and now?");
    await expect(message(bob.page, "and now?"), "what is said since");
  });

  it("is a direct conversation that has one's own messages, and takes no more", async () => {
    const bob = await ground.person("b2");
    await begin(bob.page, ["mallory2"]);
    await say(bob.page, "mine");
    const mallory = await ground.client("mallory2");
    await mallory.send({ user: "b2" }, "secret").sent;
    await expect(message(bob.page, "secret"), "the message");
    await ground.erase("mallory2");
    await expect(bob.page.getByRole("log").getByText(left), "it, erased");
    await gone(bob.page.getByRole("log").getByText("secret"), "what they said");
    await expect(message(bob.page, "mine"), "what is one's own");
    await composer(bob.page).fill("are you there?");
    await composer(bob.page).press("Enter");
    await expect(bob.page.getByText(/has left for good/).last(), "why it is not sent");
    await expect(message(bob.page, "are you there?").getByRole("img", { name: /not sent/i }), "so");
    await open(bob.page, "mallory2");
  });
});
