/**
 * Which sends that are under way on a stream left before it was known that one before them comes again. The owner refuses those, too; what it gives
 * back instead, or leaves without an outcome, must not go out again before that one (P4). Pure.
 */
import { orderKey } from "./waiting.ts";
import type { Waiting } from "./waiting.ts";

export class RefusedSends {
  /** By whose order it is: the number of the last refusal, in rising order. */
  readonly #last = new Map<string, number>();

  /** One was refused and comes again, which was the stream's refusal of this number. `leastSeen`: of what is under way still, the least `refusals_seen`. */
  refused(waiting: Waiting, number: number, leastSeen: number): void {
    for (const [key, last] of this.#last) {
      if (last >= leastSeen) break;
      this.#last.delete(key);
    }
    const key = orderKey(waiting);
    if (key === undefined) return;
    this.#last.delete(key);
    this.#last.set(key, number);
  }

  /** Whether what came back was to follow one that was refused after it had left. */
  follows(waiting: Waiting): boolean {
    const key = this.#last.size > 0 ? orderKey(waiting) : undefined;
    const number = key === undefined ? undefined : this.#last.get(key);
    return number !== undefined && number >= (waiting.operation?.refusalsSeen ?? 0);
  }

  clear(): void {
    this.#last.clear();
  }
}
