/** Who waits for an outcome, by the number that the operation was given. Numbers follow one another, so that a list will do. Pure. */

/** Numbers go up to 2^32 - 1, then from 0 on. */
const numbers = 2 ** 32;

export class Pending<T extends object> {
  /** From the oldest one that waits on; undefined: it was taken. */
  #waiting: (T | undefined)[] = [];
  /** Where the oldest is: before it all are taken. */
  #head = 0;
  /** The number of the oldest, or of the next one where none waits. */
  #first = 1;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Answers with its number. */
  add(one: T): number {
    const number = (this.#first + this.#waiting.length - this.#head) % numbers;
    this.#waiting.push(one);
    this.#size += 1;
    return number;
  }

  /** The one of this number, which then waits no more. */
  take(number: number): T | undefined {
    const at = this.#head + ((number - this.#first + numbers) % numbers);
    const one = this.#waiting[at];
    if (one === undefined) return undefined;
    this.#waiting[at] = undefined;
    this.#size -= 1;
    if (at === this.#head) this.#advance();
    return one;
  }

  /** Those that wait, the oldest first. */
  *[Symbol.iterator](): Generator<T, undefined> {
    const waiting = this.#waiting;
    for (let at = this.#head; at < waiting.length; at += 1) {
      const one = waiting[at];
      if (one !== undefined) yield one;
    }
    return undefined;
  }

  /** All, the oldest first. */
  takeAll(): T[] {
    const all = this.#waiting.flatMap((one) => one ?? []);
    this.#first = (this.#first + this.#waiting.length - this.#head) % numbers;
    this.#waiting = [];
    this.#head = 0;
    this.#size = 0;
    return all;
  }

  #advance(): void {
    const waiting = this.#waiting;
    const before = this.#head;
    while (this.#head < waiting.length && waiting[this.#head] === undefined) this.#head += 1;
    this.#first = (this.#first + this.#head - before) % numbers;
    if (this.#head < 1_024 || this.#head * 2 < waiting.length) return;
    this.#waiting = waiting.slice(this.#head);
    this.#head = 0;
  }
}
