/** What waits to be written to clients: each turn's frames of a connection become one WebSocket message. */
import type { Clock } from "../mesh/clock.ts";
import type { Chunk, FrameWriter } from "./frames.ts";

/** A frame that waits. It is encoded when it is written: to keep it encoded would cost a buffer for each. */
export interface OutFrame {
  /** How long it is, about. */
  readonly bytes: number;
  /** Puts it before what was put last. */
  put(writer: FrameWriter): void;
  /** It alone. */
  chunk(writer: FrameWriter): Chunk;
}

/** A frame that is encoded already. */
export class Encoded implements OutFrame {
  readonly #chunk: Chunk;

  constructor(chunk: Chunk) {
    this.#chunk = chunk;
  }

  get bytes(): number {
    return this.#chunk.length;
  }

  put(writer: FrameWriter): void {
    writer.putChunk(this.#chunk);
  }

  chunk(): Chunk {
    return this.#chunk;
  }
}

const none: OutFrame[] = [];

/** The frames that wait for one connection. The one who adds minds the bound. */
export class Outbox {
  #frames = none;
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  add(frame: OutFrame): void {
    if (this.#frames.length === 0) this.#frames = [frame];
    else this.#frames.push(frame);
    this.#bytes += frame.bytes;
  }

  /** All that waits, as one ServerBatch; undefined where nothing does. */
  take(writer: FrameWriter): Buffer | undefined {
    const frames = this.#frames;
    this.clear();
    if (frames.length <= 1) return frames[0]?.chunk(writer);
    for (let at = frames.length - 1; at >= 0; at -= 1) frames[at]?.put(writer);
    return writer.take();
  }

  /** Forgets what waits. */
  clear(): void {
    this.#frames = none;
    this.#bytes = 0;
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
