/** Virtual time: one event after the other, each with all that it set off done before the next. What happens when is told by the seed alone. */
import { createHash } from "node:crypto";
import { takeTurns } from "./turns.ts";

/** Whoever does more at one instant does so for ever. */
const standingMax = 50_000;

interface Event {
  readonly dueMs: number;
  /** Ties are run in the order in which they were made. */
  readonly number: number;
  readonly run: () => void;
  cancelled: boolean;
}

export class Timeline {
  #nowMs = 0;
  #made = 0;
  #ran = 0;
  /** How many events were run since time moved last. */
  #standing = 0;
  readonly #heap: Event[] = [];
  readonly #hash = createHash("sha256");
  #failure: Error | undefined;
  /** Where set, told every line of the history. */
  onNote: ((line: string) => void) | undefined;

  /** Milliseconds since the world began. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** How many events were run. */
  get events(): number {
    return this.#ran;
  }

  at(dueMs: number, run: () => void): () => void {
    const event = {
      dueMs: Math.max(dueMs, this.#nowMs),
      number: this.#made,
      run,
      cancelled: false,
    };
    this.#made += 1;
    push(this.#heap, event);
    return () => {
      event.cancelled = true;
    };
  }

  in(ms: number, run: () => void): () => void {
    return this.at(this.#nowMs + ms, run);
  }

  /** A line of the history, which is what two runs of one seed have in common. */
  note(what: string): void {
    const line = `${this.#nowMs.toFixed(3)} ${what}`;
    this.#hash.update(line).update("\n");
    this.onNote?.(line);
  }

  /** Of all lines. No more can be noted afterwards. */
  digest(): string {
    return this.#hash.digest("hex");
  }

  /** The run ends with it. */
  fail(error: unknown): void {
    this.#failure ??= error instanceof Error ? error : new Error(String(error));
  }

  /** Runs events until there are no more before the time, or `done` says so. */
  runUntil(untilMs: number, done: () => boolean = () => false): Promise<void> {
    return takeTurns(() => this.#turn(untilMs, done));
  }

  #turn(untilMs: number, done: () => boolean): "more" | "over" {
    if (this.#failure !== undefined) throw this.#failure;
    if (done()) return "over";
    const next = this.#next(untilMs);
    if (next === undefined) {
      this.#nowMs = Math.max(this.#nowMs, untilMs);
      return "over";
    }
    this.#standing = next.dueMs > this.#nowMs ? 0 : this.#standing + 1;
    if (this.#standing > standingMax) throw new Error(`time stands still at ${this.#nowMs} ms`);
    this.#nowMs = next.dueMs;
    this.#ran += 1;
    try {
      next.run();
    } catch (error) {
      this.fail(error);
    }
    return "more";
  }

  #next(untilMs: number): Event | undefined {
    for (;;) {
      const next = this.#heap[0];
      if (next === undefined || next.dueMs > untilMs) return undefined;
      pop(this.#heap);
      if (!next.cancelled) return next;
    }
  }
}

function before(one: Event, other: Event): boolean {
  return one.dueMs === other.dueMs ? one.number < other.number : one.dueMs < other.dueMs;
}

function push(heap: Event[], event: Event): void {
  let at = heap.length;
  heap.push(event);
  while (at > 0) {
    const up = (at - 1) >> 1;
    const parent = heap[up];
    if (parent === undefined || !before(event, parent)) break;
    heap[at] = parent;
    at = up;
  }
  heap[at] = event;
}

function pop(heap: Event[]): void {
  const last = heap.pop();
  if (last === undefined || heap.length === 0) return;
  let at = 0;
  for (;;) {
    let down = 2 * at + 1;
    let child = heap[down];
    if (child === undefined) break;
    const right = heap[down + 1];
    if (right !== undefined && before(right, child)) {
      down += 1;
      child = right;
    }
    if (!before(child, last)) break;
    heap[at] = child;
    at = down;
  }
  heap[at] = last;
}
