/** What outlives the process: a small store of named bytes, and the keeper that writes to it. */
import type { Cancel, ClientClock } from "./surroundings.ts";

/** Where a device keeps its outbox and what it has synced. One store belongs to one device of one user. */
export interface ClientStore {
  /** All that is kept; empty at the first start. */
  load(): Promise<ReadonlyMap<string, Uint8Array>>;
  /**
   * Sets, and removes where undefined; resolves once kept. All of one call or nothing is kept, whatever happens. Never
   * called while another call is under way.
   */
  save(changes: ReadonlyMap<string, Uint8Array | undefined>): Promise<void>;
}

/** Keeps nothing beyond itself: hand the same one to the next client and it goes on there. */
export class MemoryStore implements ClientStore {
  readonly #items = new Map<string, Uint8Array>();

  load(): Promise<ReadonlyMap<string, Uint8Array>> {
    return Promise.resolve(new Map(this.#items));
  }

  save(changes: ReadonlyMap<string, Uint8Array | undefined>): Promise<void> {
    for (const [key, value] of changes) {
      if (value === undefined) this.#items.delete(key);
      else this.#items.set(key, value);
    }
    return Promise.resolve();
  }
}

/** Given when the save begins, so that many changes of one item are encoded once. */
export type Encode = () => Uint8Array | undefined;

const saveAgainMs = 1_000;

/**
 * Gathers changes and saves them together, one save at a time. All that is waiting goes into the next save, so what was
 * changed in one turn is kept in one piece: a sync token never without the conversations that it covers.
 */
export class Keeper {
  readonly #store: ClientStore;
  readonly #clock: ClientClock;
  readonly #failed: (error: unknown) => void;
  readonly #gatherMs: number;
  readonly #dirty = new Map<string, Encode>();
  #saving: Promise<void> | undefined;
  #cancel: Cancel | undefined;
  #urgent = false;
  #closed = false;

  constructor(
    store: ClientStore,
    clock: ClientClock,
    gatherMs: number,
    failed: (error: unknown) => void,
  ) {
    this.#store = store;
    this.#clock = clock;
    this.#gatherMs = gatherMs;
    this.#failed = failed;
  }

  /** Keeps it soon; `urgent`: at the end of this turn. */
  put(key: string, encode: Encode, urgent = false): void {
    if (this.#closed) return;
    this.#dirty.set(key, encode);
    if (urgent && !this.#urgent) {
      this.#urgent = true;
      this.#clock.afterTurn(() => this.#begin());
    } else if (!urgent) {
      this.#cancel ??= this.#clock.after(this.#gatherMs, () => this.#begin());
    }
  }

  /** Saves what is waiting; tries once more where that fails. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancel?.();
    await this.#saving;
    for (let tries = 0; tries < 2 && this.#dirty.size > 0; tries++) await this.#save();
  }

  #begin(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    this.#urgent = false;
    if (this.#saving !== undefined || this.#dirty.size === 0 || this.#closed) return;
    this.#saving = this.#save().then((kept) => {
      this.#saving = undefined;
      if (this.#dirty.size === 0 || this.#closed) return;
      if (kept) this.#clock.afterTurn(() => this.#begin());
      else this.#cancel ??= this.#clock.after(saveAgainMs, () => this.#begin());
    });
  }

  async #save(): Promise<boolean> {
    const taken = new Map(this.#dirty);
    this.#dirty.clear();
    const changes = new Map([...taken].map(([key, encode]) => [key, encode()]));
    try {
      await this.#store.save(changes);
      return true;
    } catch (error) {
      for (const [key, encode] of taken) if (!this.#dirty.has(key)) this.#dirty.set(key, encode);
      this.#failed(error);
      return false;
    }
  }
}
