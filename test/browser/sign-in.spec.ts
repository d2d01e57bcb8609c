/** Who is signed in: by name, more than one in tabs of one browser, and out again. */
import assert from "node:assert/strict";
import { secret, tokenFor } from "../support/parley.ts";
import { expect, gone } from "./expecting.ts";
import { atHome } from "./flows.ts";
import { openGround } from "./ground.ts";

describe("signing in on the page", () => {
  const ground = openGround();

  it("takes a name, keeps the tab signed in over a reload, and signs out", async () => {
    const { page } = await ground.person("alice");
    await atHome(page);
    assert.ok(!page.url().includes("ey"), "a token is in the address");
    await page.reload();
    await atHome(page);
    await page.getByRole("button", { name: "Settings of alice" }).click();
    await page.getByRole("button", { name: "Sign out" }).click();
    await expect(page.getByLabel("Your name"), "the way to sign in");
    await expect(page.getByRole("button", { name: "alice" }), "the name used before");
    assert.equal(
      await page.evaluate(() => JSON.stringify(Object.entries(localStorage)).includes("eyJ")),
      false,
    );
  });

  it("has several accounts side by side in tabs of one browser", async () => {
    const alice = await ground.person("alice");
    await atHome(alice.page);
    const other = await alice.context.newPage();
    await other.goto(ground.url);
    await other.getByLabel("Your name").fill("bob");
    await other.keyboard.press("Enter");
    await atHome(other);
    await expect(other.getByRole("button", { name: "Settings of bob" }), "bob in his tab");
    await alice.page.reload();
    await expect(alice.page.getByRole("button", { name: "Settings of alice" }), "alice in hers");
  });

  it("refuses what is no name before the server has to", async () => {
    const page = await (await ground.context()).newPage();
    await page.goto(ground.url);
    await page.getByLabel("Your name").fill("not a name");
    assert.equal(await page.getByRole("button", { name: "Sign in" }).isDisabled(), true);
    await page.getByLabel("Your name").fill("a.name");
    await gone(page.locator("[aria-invalid=true]"), "the complaint");
    assert.equal(await page.getByRole("button", { name: "Sign in" }).isDisabled(), false);
  });
});

describe("signing in on the page of a server that makes no tokens", () => {
  const ground = openGround("page", { PARLEY_JWT_SECRET: secret });

  it("takes a token that was made elsewhere, and says why it takes no other", async () => {
    const page = await (await ground.context()).newPage();
    ground.expect(/Failed to load resource|WebSocket/);
    await page.goto(ground.url);
    await page.getByLabel("Access token").fill("no token");
    await page.getByRole("button", { name: "Sign in" }).click();
    await expect(page.getByRole("alert"), "why not");
    await page.getByLabel("Access token").fill(await tokenFor("alice"));
    await page.getByRole("button", { name: "Sign in" }).click();
    await atHome(page);
    await expect(page.getByRole("button", { name: "Settings of alice" }), "alice");
  });
});
