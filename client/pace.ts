/** How fast a link sends: no faster than the server takes, which would end the connection. */

import type { PackedBatch } from "./frames.ts";
import type { Cancel, ClientClock } from "./surroundings.ts";

/** A server that does not tell takes so much in a second. */
const standard = { frames: 2_000, bytes: 2 * 1_024 * 1_024 };
/** Of what the server takes: the clocks of both sides differ a little. */
const share = 0.95;

/** Pure: it is told the time. The server lets two seconds' worth through at once; the client takes one, since a network may let wait and then hurry. */
export class Pace {
  #frames = standard.frames;
  #bytes = standard.bytes;
  #framesPerMs = (standard.frames * share) / 1_000;
  #bytesPerMs = (standard.bytes * share) / 1_000;
  #framesMax = standard.frames;
  #bytesMax = standard.bytes;
  #atMs: number;

  constructor(nowMs: number) {
    this.#atMs = nowMs;
  }

  /** How many frames may go out together. */
  get framesAtOnce(): number {
    return this.#framesMax;
  }

  /** What the server takes in a second; 0: it does not tell. */
  allow(frames: number, bytes: number): void {
    if (frames === 0 || bytes === 0) return;
    this.#frames += frames - this.#framesMax;
    this.#bytes += bytes - this.#bytesMax;
    this.#framesMax = frames;
    this.#bytesMax = bytes;
    this.#framesPerMs = (frames * share) / 1_000;
    this.#bytesPerMs = (bytes * share) / 1_000;
  }

  /** 0: it goes out, and counts; else how long it has to wait. */
  take(nowMs: number, frames: number, bytes: number): number {
    const ms = nowMs - this.#atMs;
    this.#atMs = nowMs;
    this.#frames = Math.min(this.#framesMax, this.#frames + ms * this.#framesPerMs);
    this.#bytes = Math.min(this.#bytesMax, this.#bytes + ms * this.#bytesPerMs);
    // What is more than a second's worth goes out from full.
    const lackFrames = Math.min(frames, this.#framesMax) - this.#frames;
    const lackBytes = Math.min(bytes, this.#bytesMax) - this.#bytes;
    if (lackFrames > 0 || lackBytes > 0)
      return Math.ceil(Math.max(lackFrames / this.#framesPerMs, lackBytes / this.#bytesPerMs));
    this.#frames -= frames;
    this.#bytes -= bytes;
    return 0;
  }
}

/** Batches on their way to a socket, in order, each when its time has come. Whoever asks bounds what is under way, and so what waits here. */
export class PacedWay {
  readonly pace: Pace;
  readonly #clock: ClientClock;
  readonly #out: (bytes: Uint8Array<ArrayBuffer>) => void;
  #waiting: PackedBatch[] = [];
  #cancel: Cancel = () => undefined;

  constructor(clock: ClientClock, out: (bytes: Uint8Array<ArrayBuffer>) => void) {
    this.pace = new Pace(clock.monotonic());
    this.#clock = clock;
    this.#out = out;
  }

  send(batches: readonly PackedBatch[]): void {
    this.#waiting.push(...batches);
    this.#goOn();
  }

  /** What waits goes nowhere. */
  close(): void {
    this.#waiting = [];
    this.#cancel();
  }

  #goOn(): void {
    this.#cancel();
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const waitMs = this.pace.take(this.#clock.monotonic(), next.frames, next.bytes.length);
      if (waitMs > 0) {
        this.#cancel = this.#clock.after(waitMs, () => this.#goOn());
        return;
      }
      this.#waiting.shift();
      this.#out(next.bytes);
    }
  }
}
