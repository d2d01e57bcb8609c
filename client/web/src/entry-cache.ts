/** What one user has loaded in this browser: entries to read while offline, and what is written and not sent yet. Bounded. */
import { deleteDB, openDB, type DBSchema, type IDBPDatabase, type IDBPTransaction } from "idb";
import { platformClock, type Cancel } from "../../surroundings.ts";
import { emptied } from "./erased.ts";
import type { Entry, ErasureBody, Pending } from "./session.ts";

interface Schema extends DBSchema {
  entries: { key: [conversationId: string, seq: number]; value: Entry; indexes: { time: number } };
  pending: { key: string; value: Pending };
}

/** The oldest go first. */
const entriesMax = 50_000;
const dropAtOnce = 5_000;
const gatherMs = 250;

export class EntryCache {
  readonly #name: string;
  readonly #failed: (error: unknown) => void;
  #database: Promise<IDBPDatabase<Schema>> | undefined;
  readonly #dirty = new Map<string, Entry>();
  #cancel: Cancel | undefined;
  #sinceCounted = dropAtOnce;

  /** `failed`: is told what could not be kept; the page goes on without it. */
  constructor(name: string, failed: (error: unknown) => void) {
    this.#name = name;
    this.#failed = failed;
  }

  /** Keeps them soon. */
  put(entries: readonly Entry[]): void {
    for (const entry of entries) this.#dirty.set(`${entry.conversationId}/${entry.seq}`, entry);
    this.#cancel ??= platformClock.after(gatherMs, () => void this.#flush());
  }

  /**
   * Up to `limit` entries next to a seq, oldest first, without a hole: those before `beforeSeq`, or those after `afterSeq`.
   */
  async page(
    conversationId: string,
    side: { readonly beforeSeq: number } | { readonly afterSeq: number },
    limit: number,
  ): Promise<Entry[]> {
    const back = "beforeSeq" in side;
    const first = back ? Math.max(1, side.beforeSeq - limit) : side.afterSeq + 1;
    const last = back ? side.beforeSeq - 1 : side.afterSeq + limit;
    if (last < first) return [];
    await this.#flush();
    const range = IDBKeyRange.bound([conversationId, first], [conversationId, last]);
    const found = await (await this.#open()).getAll("entries", range);
    return back ? tailOf(found, last) : headOf(found, first);
  }

  /** Forgets what is kept of entries that were erased. */
  async erase(conversationId: string, erasure: ErasureBody): Promise<void> {
    await this.#flush();
    try {
      const writing = (await this.#open()).transaction("entries", "readwrite");
      for (const { from, to } of erasure.ranges) {
        const range = IDBKeyRange.bound([conversationId, from], [conversationId, to]);
        let cursor = await writing.store.openCursor(range);
        for (; cursor !== null; cursor = await cursor.continue())
          await cursor.update(emptied(cursor.value));
      }
      await writing.done;
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Forgets all entries; not what is unsent. */
  async forget(): Promise<void> {
    this.#dirty.clear();
    try {
      await (await this.#open()).clear("entries");
    } catch (error) {
      this.#failed(error);
    }
  }

  async pending(): Promise<Pending[]> {
    return (await this.#open()).getAll("pending");
  }

  async keepPending(pending: Pending): Promise<void> {
    await (await this.#open()).put("pending", pending, pending.clientId);
  }

  async dropPending(clientId: string): Promise<void> {
    await (await this.#open()).delete("pending", clientId);
  }

  async close(): Promise<void> {
    await this.#flush();
    const database = await this.#database?.catch(() => undefined);
    this.#database = undefined;
    database?.close();
  }

  async #flush(): Promise<void> {
    this.#cancel?.();
    this.#cancel = undefined;
    if (this.#dirty.size === 0) return;
    const entries = [...this.#dirty.values()];
    this.#dirty.clear();
    try {
      const writing = (await this.#open()).transaction("entries", "readwrite");
      for (const entry of entries) void writing.store.put(entry, [entry.conversationId, entry.seq]);
      this.#sinceCounted += entries.length;
      if (this.#sinceCounted > dropAtOnce) {
        this.#sinceCounted = 0;
        await dropOldest(writing);
      }
      await writing.done;
    } catch (error) {
      this.#failed(error);
    }
  }

  #open(): Promise<IDBPDatabase<Schema>> {
    this.#database ??= openDB<Schema>(this.#name, 1, {
      upgrade(database) {
        database.createObjectStore("entries").createIndex("time", "timeMs");
        database.createObjectStore("pending");
      },
      // The user has signed out in another tab.
      blocking: (_old, _new, event) => {
        if (event.target instanceof IDBDatabase) event.target.close();
        this.#database = undefined;
      },
      terminated: () => (this.#database = undefined),
    }).catch((error: unknown) => {
      this.#database = undefined;
      throw error;
    });
    return this.#database;
  }
}

export function deleteEntryCache(name: string): Promise<void> {
  return deleteDB(name);
}

async function dropOldest(
  writing: IDBPTransaction<Schema, ["entries"], "readwrite">,
): Promise<void> {
  let over = (await writing.store.count()) - entriesMax + dropAtOnce;
  if (over <= dropAtOnce) return;
  let cursor = await writing.store.index("time").openCursor();
  for (; cursor !== null && over > 0; over -= 1) {
    await cursor.delete();
    cursor = await cursor.continue();
  }
}

/** The end of a row of entries without a hole before `last`. */
function tailOf(entries: readonly Entry[], last: number): Entry[] {
  const from = entries.findLastIndex(({ seq }, at) => seq !== last - (entries.length - 1 - at));
  return entries.slice(from + 1);
}

function headOf(entries: readonly Entry[], first: number): Entry[] {
  const to = entries.findIndex(({ seq }, at) => seq !== first + at);
  return to < 0 ? [...entries] : entries.slice(0, to);
}
