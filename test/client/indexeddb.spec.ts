/** The browser's store, over an IndexedDB in memory; test/browser has it in a real one. */
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { deleteIndexedDbStore, IndexedDbStore } from "../../client/indexeddb.ts";
import { bytes, keepsReplacesAndRemoves } from "./store-contract.ts";

describe("the client's store in IndexedDB", () => {
  const opened: IndexedDbStore[] = [];
  const open = (): IndexedDbStore => {
    const store = new IndexedDbStore("alice");
    opened.push(store);
    return store;
  };
  afterEach(async () => {
    for (const store of opened.splice(0)) store.close();
    await deleteIndexedDbStore("alice");
  });

  it("keeps, replaces and removes", () => keepsReplacesAndRemoves(open));

  it("takes nothing from a client that was replaced", async () => {
    const first = open();
    await first.load();
    await first.save(new Map([["a", bytes("1")]]));
    const second = open();
    await second.load();
    await assert.rejects(first.save(new Map([["a", bytes("old")]])), /another client has this/);
    await second.save(new Map([["b", bytes("2")]]));
    assert.deepEqual(
      [...(await open().load())].map(([key, value]) => [key, new TextDecoder().decode(value)]),
      [
        ["a", "1"],
        ["b", "2"],
      ],
    );
  });

  it("takes nothing before it was loaded, so that nobody saves over what they do not know", async () => {
    await assert.rejects(open().save(new Map([["a", bytes("1")]])));
    assert.equal((await open().load()).size, 0);
  });
});
