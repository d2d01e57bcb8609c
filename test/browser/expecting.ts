/** Waits of the specs, each with a bound and words for what did not come. */
import type { Locator, Page } from "playwright-core";

export type { Locator, Page };

const withinMs = 15_000;

/** It is there, and to be seen. */
export async function expect(what: Locator, words: string): Promise<void> {
  await what
    .first()
    .waitFor({ timeout: withinMs })
    .catch((cause: unknown) => {
      throw new Error(`not seen within ${withinMs} ms: ${words}`, { cause });
    });
}

export async function gone(what: Locator, words: string): Promise<void> {
  await what.waitFor({ state: "hidden", timeout: withinMs }).catch((cause: unknown) => {
    throw new Error(`still seen after ${withinMs} ms: ${words}`, { cause });
  });
}
