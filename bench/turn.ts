/** One turn of the event loop: who has something to say is flushed once, after all sockets were read. */
export interface Flushed {
  /** True while it waits for the flush. */
  dirty: boolean;
  flush(): void;
}

export class Turn {
  #dirty: Flushed[] = [];
  #spare: Flushed[] = [];
  #scheduled = false;

  touch(one: Flushed): void {
    if (one.dirty) return;
    one.dirty = true;
    this.#dirty.push(one);
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => this.flush());
  }

  flush(): void {
    this.#scheduled = false;
    const now = this.#dirty;
    this.#dirty = this.#spare;
    this.#spare = now;
    for (const one of now) {
      one.dirty = false;
      one.flush();
    }
    now.length = 0;
  }
}
