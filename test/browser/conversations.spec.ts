/** The list of conversations, groups and their members, as two and three users see them. */
import assert from "node:assert/strict";
import { expect, gone } from "./expecting.ts";
import { atHome, begin, message, open, row, say } from "./flows.ts";
import { openGround } from "./ground.ts";

describe("conversations on the page", () => {
  const ground = openGround();

  it("shows the last message and what is unread, the latest activity first", async () => {
    const [alice, bob] = [await ground.person("a1"), await ground.person("b1")];
    await begin(alice.page, ["b1"]);
    await say(alice.page, "first");
    await begin(alice.page, ["c1"]);
    await say(alice.page, "to somebody else");
    await say(alice.page, "again");
    await atHome(bob.page);
    await expect(row(bob.page, "a1").getByText("first"), "the last message in bob's list");
    await expect(row(bob.page, "a1").getByText("1 unread"), "one unread");
    assert.equal(await bob.page.title(), "(1) Parley");
    await open(bob.page, "a1");
    await gone(row(bob.page, "a1").getByText("unread"), "unread in a conversation that is read");
    const rows = alice.page.getByRole("navigation").getByRole("link");
    assert.match((await rows.first().textContent()) ?? "", /^.*c1/);
    await say(bob.page, "an answer");
    await expect(rows.first().getByText("an answer"), "the answered conversation on top");
  });

  it("tells who is there, and since when they are not", async () => {
    const [alice, bob] = [await ground.person("a2"), await ground.person("b2")];
    await begin(alice.page, ["b2"]);
    await say(alice.page, "hello");
    await expect(alice.page.locator(".room-state", { hasText: "Online" }), "bob online");
    await bob.context.close();
    await expect(
      alice.page.locator(".room-state", { hasText: "Last seen" }),
      "when bob was last seen",
    );
  });

  it("makes a group, renames it, adds and removes members, and lets one leave", async () => {
    const [alice, bob, carol] = [
      await ground.person("a3"),
      await ground.person("b3"),
      await ground.person("c3"),
    ];
    await begin(alice.page, ["b3", "c3"], "Trip");
    await say(alice.page, "who is in?");
    await open(bob.page, "Trip");
    await expect(message(bob.page, "who is in?"), "the group's message");
    await alice.page.getByRole("button", { name: "Members and details" }).click();
    const sheet = alice.page.getByRole("dialog");
    await expect(sheet.getByText("c3"), "a member");
    await sheet.getByLabel("Name of the group").fill("Long trip");
    await sheet.getByRole("button", { name: "Rename" }).click();
    await expect(row(bob.page, "Long trip"), "the new name at bob's");
    await expect(bob.page.getByText("a3 renamed the group to “Long trip”"), "who renamed it");
    await sheet.getByRole("button", { name: "Add people" }).click();
    await sheet.getByLabel("Add people").fill("d3");
    await sheet.getByLabel("Add people").press("Enter");
    await sheet.getByRole("button", { name: "Add", exact: true }).click();
    await expect(bob.page.getByText("a3 added d3"), "who was added");
    await sheet.getByRole("button", { name: "Remove c3" }).click();
    await expect(row(carol.page, "").getByText("no longer in this group"), "that carol is out");
    await bob.page.getByRole("button", { name: "Members and details" }).click();
    await bob.page.getByRole("button", { name: "Leave group" }).click();
    await bob.page.getByRole("button", { name: "Leave", exact: true }).click();
    await expect(alice.page.getByText("b3 left"), "who left");
  });
});
