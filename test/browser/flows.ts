/** What people do on the page, in their words: the steps that the specs of its flows are made of. */
import { expect, type Locator, type Page } from "./expecting.ts";

/** A page whose user is signed in and sees the conversations. */
export async function atHome(page: Page): Promise<void> {
  await page.getByLabel("Find a conversation").waitFor();
}

export async function begin(page: Page, people: readonly string[], title?: string): Promise<void> {
  await page.getByRole("button", { name: "New conversation" }).first().click();
  for (const name of people) {
    await page.getByLabel("With whom?").fill(name);
    await page.getByLabel("With whom?").press("Enter");
  }
  if (title === undefined) await page.getByRole("button", { name: "Start", exact: true }).click();
  else {
    await page.getByLabel("Name of the group").fill(title);
    await page.getByRole("button", { name: "Create group" }).click();
  }
  await page.getByRole("heading", { level: 1, name: title ?? people[0] ?? "" }).waitFor();
}

export const composer = (page: Page): Locator => page.getByRole("textbox", { name: "Message" });

export async function say(page: Page, text: string): Promise<void> {
  await composer(page).fill(text);
  await composer(page).press("Enter");
}

/** A conversation in the list. */
export const row = (page: Page, name: string): Locator =>
  page.getByRole("navigation").getByRole("link").filter({ hasText: name });

export async function open(page: Page, name: string): Promise<void> {
  await row(page, name).click();
  await page.getByRole("heading", { level: 1, name }).waitFor();
}

/** A message in the open conversation. */
export const message = (page: Page, text: string): Locator =>
  page.getByRole("log").getByRole("article").filter({ hasText: text });

export async function tick(page: Page, text: string, state: string): Promise<void> {
  await expect(
    message(page, text).getByRole("img", { name: state, exact: true }),
    `${text}: ${state}`,
  );
}
