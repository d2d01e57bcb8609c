/** Commits in groups: all that gathers while one group is being written makes the next one. It must not know what is written. */
import type { ConnectError } from "@connectrpc/connect";
import { unavailable } from "../mesh/errors.ts";
import { Writer } from "./codec.ts";

/** Something to keep. */
export interface Change {
  /** Why it cannot be kept as things are. Where it can, it is planned for, and either `apply` or `undo` will follow. */
  admit(): ConnectError | undefined;
  encode(to: Writer): void;
  apply(): void;
  undo(): void;
}

export interface GroupLog {
  /** Begins a group's bytes. */
  begin(group: Writer): void;
  append(group: Writer): Promise<void>;
  /** Resolves when there is room for more; rejects where that cannot be waited for. */
  room(): Promise<void> | undefined;
  /** A group was applied. */
  applied(bytes: number): void;
}

interface Waiting {
  change: Change;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/** A group is closed when it has so many bytes, so that its first change does not wait too long for its last one. */
const groupBytesMax = 1_048_576;
/** Groups lie one after another in buffers of this size. */
const bufferBytes = 2 * groupBytesMax;

export class Commits {
  readonly #log: GroupLog;
  #queue: Waiting[] = [];
  #boundaries: (() => void)[] = [];
  /** Whether the one loop runs: set before it begins, since what it calls may add more. */
  #running = false;
  #ended: Promise<void> = Promise.resolve();
  #closed = false;
  /** Waits for room, with no group under way. */
  #waiting = false;
  readonly #writer = new Writer(bufferBytes);

  constructor(log: GroupLog) {
    this.#log = log;
  }

  /** Resolves when the change is durable and applied. Changes are kept in the order of their coming. */
  add(change: Change): Promise<void> {
    if (this.#closed) return Promise.reject(unavailable("the store is closed"));
    return new Promise((resolve, reject) => {
      this.#queue.push({ change, resolve, reject });
      this.#wake();
    });
  }

  /** Calls `run` when no group is under way. */
  atBoundary(run: () => void): void {
    if (this.#waiting) return run();
    this.#boundaries.push(run);
    this.#wake();
  }

  /** Waits for all that was added. */
  async close(): Promise<void> {
    this.#closed = true;
    while (this.#running) await this.#ended;
  }

  #wake(): void {
    if (this.#running) return;
    this.#running = true;
    this.#ended = this.#run();
  }

  async #run(): Promise<void> {
    for (;;) {
      for (const run of this.#boundaries.splice(0)) run();
      if (this.#queue.length === 0) {
        this.#running = false;
        return;
      }
      try {
        this.#waiting = true;
        await this.#log.room();
        this.#waiting = false;
      } catch (error) {
        this.#waiting = false;
        for (const { reject } of this.#queue.splice(0)) reject(error);
        continue;
      }
      await this.#commit();
    }
  }

  async #commit(): Promise<void> {
    const writer = this.#writer;
    this.#log.begin(writer);
    const emptyBytes = writer.length;
    const group = this.#gather(writer);
    if (group.length === 0) return;
    const bytes = writer.length - emptyBytes;
    try {
      await this.#log.append(writer);
    } catch (error) {
      for (const { change } of group.toReversed()) change.undo();
      for (const { reject } of group) reject(error);
      return;
    }
    for (const { change } of group) change.apply();
    this.#log.applied(bytes);
    for (const { resolve } of group) resolve();
  }

  #gather(writer: Writer): Waiting[] {
    const group: Waiting[] = [];
    let taken = 0;
    for (const waiting of this.#queue) {
      if (writer.length > groupBytesMax) break;
      taken += 1;
      const error = this.#take(waiting.change, writer);
      if (error === undefined) group.push(waiting);
      else waiting.reject(error);
    }
    this.#queue = taken === this.#queue.length ? [] : this.#queue.slice(taken);
    return group;
  }

  /** A change that cannot be checked or written down fails alone. */
  #take(change: Change, writer: Writer): unknown {
    const { length } = writer;
    let planned = false;
    try {
      const refused = change.admit();
      if (refused !== undefined) return refused;
      planned = true;
      change.encode(writer);
      return undefined;
    } catch (error) {
      writer.reset(length);
      if (planned) change.undo();
      return error;
    }
  }
}
