/** One life of a process, as the others know it. When the life is over for the others, the process begins another under a new id. */
import { type Random, newId } from "./random.ts";

export class Identity {
  readonly #random: Random;
  readonly #listeners = new Set<(before: string) => void>();
  #id: string;

  constructor(random: Random) {
    this.#random = random;
    this.#id = newId(random);
  }

  /** Never used again by another life, of this process or any other. */
  get id(): string {
    return this.#id;
  }

  /** The life `id` is over: its lease was lost, or its incarnation was revoked. Does nothing where it was over before. */
  end(id: string): void {
    if (id !== this.#id) return;
    this.#id = newId(this.#random);
    for (const listener of this.#listeners) listener(id);
  }

  /** Calls, with the id of the life that ended, once another has begun, until the answer is called. */
  watch(renewed: (before: string) => void): () => void {
    this.#listeners.add(renewed);
    return () => void this.#listeners.delete(renewed);
  }
}
