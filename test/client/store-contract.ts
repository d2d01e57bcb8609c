/** What every store of a client does, whatever it keeps things in. */
import assert from "node:assert/strict";
import type { ClientStore } from "../../client/store.ts";

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** `open`: the same store, by a client that begins. */
export async function keepsReplacesAndRemoves(open: () => ClientStore): Promise<void> {
  const first = open();
  assert.equal((await first.load()).size, 0);
  await first.save(
    new Map([
      ["a", bytes("1")],
      ["b", bytes("2")],
    ]),
  );
  await first.save(
    new Map([
      ["a", undefined],
      ["c", bytes("3")],
      ["b", bytes("4")],
    ]),
  );
  const kept = await open().load();
  assert.deepEqual([...kept].toSorted(), [
    ["b", bytes("4")],
    ["c", bytes("3")],
  ]);
}
