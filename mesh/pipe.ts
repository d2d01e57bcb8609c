/** The two stream primitives: a bounded queue, and a gatherer that turns what comes in one turn into one batch. Both have one reader. */
import type { Clock } from "./clock.ts";

type Waiting<T> = {
  resolve: (result: IteratorResult<T, undefined>) => void;
  reject: (error: unknown) => void;
};

const done: IteratorReturnResult<undefined> = { done: true, value: undefined };

/** What a reader of either primitive sees. */
abstract class Source<T> implements AsyncIterableIterator<T, undefined> {
  #waiting: Waiting<T> | undefined;
  #ended = false;
  #error: unknown;

  /** The next value to hand out, or undefined where there is none yet. */
  protected abstract take(): T | undefined;
  /** Forgets what was not read. */
  protected abstract clear(): void;

  /** True once `end` was called or the reader went away: what is added now goes nowhere. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Whether the reader waits for a value. */
  protected get idle(): boolean {
    return this.#waiting !== undefined;
  }

  /** No more will come. The reader gets what is left, then the end or the error. */
  end(error?: unknown): void {
    if (this.#ended) return;
    this.wake();
    this.#ended = true;
    this.#error = error;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (error === undefined) waiting?.resolve(done);
    else waiting?.reject(error);
  }

  /** Hands the next value to a reader that waits. */
  protected wake(): void {
    if (this.#waiting === undefined) return;
    const value = this.take();
    if (value === undefined) return;
    const { resolve } = this.#waiting;
    this.#waiting = undefined;
    resolve({ done: false, value });
  }

  next(): Promise<IteratorResult<T, undefined>> {
    const value = this.take();
    if (value !== undefined) return Promise.resolve({ done: false, value });
    if (this.#ended)
      return this.#error === undefined ? Promise.resolve(done) : Promise.reject(this.#error);
    if (this.idle)
      return Promise.reject(new Error("a stream has one reader that asks once at a time"));
    return new Promise((resolve, reject) => (this.#waiting = { resolve, reject }));
  }

  return(): Promise<IteratorReturnResult<undefined>> {
    this.clear();
    this.end();
    return Promise.resolve(done);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** A bounded queue of single values. */
export class Pipe<T extends object> extends Source<T> {
  readonly #values: T[] = [];
  #head = 0;
  readonly #max: number;

  constructor(max: number) {
    super();
    this.#max = max;
  }

  /** False means that it is full or ended: the caller decides the fate of the value and of the reader. */
  offer(value: T): boolean {
    if (this.ended || this.#values.length - this.#head >= this.#max) return false;
    this.#values.push(value);
    this.wake();
    return true;
  }

  protected take(): T | undefined {
    const value = this.#values[this.#head];
    if (value === undefined) return undefined;
    this.#head += 1;
    if (this.#head * 2 > this.#values.length) {
      this.#values.splice(0, this.#head);
      this.#head = 0;
    }
    return value;
  }

  protected clear(): void {
    this.#values.length = 0;
    this.#head = 0;
  }
}

/**
 * Gathers values into batches: a batch holds all that was added in one turn of the event loop, or while the reader was busy with
 * the one before. Order is kept. A reader that is a stream's sending side makes each batch one stream message.
 */
export class Gather<T> extends Source<T[]> {
  #values: T[] = [];
  #armed = false;
  #ready = false;
  readonly #clock: Clock;
  readonly #max: number;

  constructor(clock: Clock, max: number) {
    super();
    this.#clock = clock;
    this.#max = max;
  }

  get size(): number {
    return this.#values.length;
  }

  /** False means that it is full or ended: the caller decides the fate of the value and of the reader. */
  add(value: T): boolean {
    if (this.ended || this.#values.length >= this.#max) return false;
    this.#values.push(value);
    if (!this.#armed) {
      this.#armed = true;
      this.#clock.afterTurn(() => {
        this.#armed = false;
        this.#ready = true;
        this.wake();
      });
    }
    return true;
  }

  override end(error?: unknown): void {
    this.#ready = true;
    super.end(error);
  }

  protected take(): T[] | undefined {
    if (!this.#ready || this.#values.length === 0) return undefined;
    const batch = this.#values;
    this.#values = [];
    this.#ready = false;
    return batch;
  }

  protected clear(): void {
    this.#values = [];
  }
}

/** The values with something done to each. */
export async function* mapped<T, U>(
  values: AsyncIterable<T>,
  map: (value: T) => U,
): AsyncGenerator<U, undefined> {
  for await (const value of values) yield map(value);
  return undefined;
}
