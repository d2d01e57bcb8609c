/** What waits to be written to clients: each turn's frames of a connection become one WebSocket message. */
import type { Clock } from "../mesh/clock.ts";
import type { Chunk } from "./frames.ts";

/** The frames that wait for one connection. The one who adds minds the bound. */
export class Outbox {
  #chunks: Chunk[] = [];
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  add(chunk: Chunk): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
  }

  /** All that waits, as one ServerBatch; undefined where nothing does. */
  take(): Buffer | undefined {
    const [first] = this.#chunks;
    if (first === undefined) return undefined;
    const batch = this.#chunks.length === 1 ? first : Buffer.concat(this.#chunks, this.#bytes);
    this.#chunks = [];
    this.#bytes = 0;
    return batch;
  }
}

export interface Flushable {
  flush(): void;
}

/** Flushes, when the present turn of the event loop is done, all that were marked in it. */
export class Flusher {
  readonly #clock: Clock;
  #marked: Flushable[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Each one is marked once a turn by its own doing. */
  mark(flushable: Flushable): void {
    this.#marked.push(flushable);
    if (this.#marked.length === 1) this.#clock.afterTurn(this.#flush);
  }

  readonly #flush = (): void => {
    const marked = this.#marked;
    this.#marked = [];
    for (const flushable of marked) flushable.flush();
  };
}
