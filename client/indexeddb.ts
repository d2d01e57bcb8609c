/** A client's store in the browser: one IndexedDB database for one user, which one client at a time writes to. */
import { deleteDB, openDB, type DBSchema, type IDBPDatabase } from "idb";
import type { ClientStore } from "./store.ts";

interface Schema extends DBSchema {
  items: { key: string; value: Uint8Array };
  /** Under "owner": how many clients have loaded the store. */
  owner: { key: string; value: number };
}

const ownerKey = "owner";

/**
 * Whoever loads it last owns it: a client in another tab that was only frozen, and does not know yet that it was replaced, can no longer
 * save what is old.
 */
export class IndexedDbStore implements ClientStore {
  readonly #name: string;
  #database: Promise<IDBPDatabase<Schema>> | undefined;
  #owner = 0;

  /** `name`: the database's; each user needs one of their own. */
  constructor(name: string) {
    this.#name = name;
  }

  async load(): Promise<ReadonlyMap<string, Uint8Array>> {
    const database = await this.#open();
    const both = database.transaction(["items", "owner"], "readwrite", { durability: "strict" });
    const items = both.objectStore("items");
    const owner = both.objectStore("owner");
    const next = ((await owner.get(ownerKey)) ?? 0) + 1;
    await owner.put(next, ownerKey);
    const [keys, values] = await Promise.all([items.getAllKeys(), items.getAll()]);
    await both.done;
    this.#owner = next;
    return new Map(keys.map((key, at) => [key, values[at] ?? new Uint8Array()]));
  }

  /** Rejects, and keeps nothing, where another client has loaded the store since. */
  async save(changes: ReadonlyMap<string, Uint8Array | undefined>): Promise<void> {
    const database = await this.#open();
    const both = database.transaction(["items", "owner"], "readwrite", { durability: "strict" });
    const items = both.objectStore("items");
    const owner = await both.objectStore("owner").get(ownerKey);
    if (owner !== this.#owner) {
      both.abort();
      await both.done.catch(() => undefined);
      throw new Error("another client has this store now");
    }
    for (const [key, value] of changes) {
      void (value === undefined ? items.delete(key) : items.put(value, key));
    }
    await both.done;
  }

  close(): void {
    this.#database?.then(
      (database) => database.close(),
      () => undefined,
    );
    this.#database = undefined;
  }

  #open(): Promise<IDBPDatabase<Schema>> {
    this.#database ??= openDB<Schema>(this.#name, 1, {
      upgrade(database) {
        database.createObjectStore("items");
        database.createObjectStore("owner");
      },
      // Somebody deletes it: the user has signed out.
      blocking: () => this.close(),
      terminated: () => (this.#database = undefined),
    }).catch((error: unknown) => {
      this.#database = undefined;
      throw error;
    });
    return this.#database;
  }
}

/** Forgets all that a client has kept under this name. */
export function deleteIndexedDbStore(name: string): Promise<void> {
  return deleteDB(name);
}
