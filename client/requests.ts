/**
 * Numbers requests, gathers a turn's frames into one batch, and brings each answer to whoever asked. Finds a line dead that says nothing while an
 * answer is due: long before heartbeats would, and just when somebody waits.
 */
import { create } from "@bufbuild/protobuf";
import {
  ClientFrameSchema,
  type ClientFrame,
  type ServerFrame,
} from "../proto/gen/parley/v1/frame_pb.ts";
import type { Answer, Ask } from "./frames.ts";
import type { Cancel, ClientClock } from "./surroundings.ts";

const requestIdMax = 0xffff_fffe;
/** A slow line may take that many times as long for what is large: it is given twice the time after each time that it was found dead. */
const patienceMax = 8;

interface Asked {
  readonly answered: (answer: Answer) => void;
  readonly askedMs: number;
}

export class Requests {
  readonly #clock: ClientClock;
  readonly #answerMs: number;
  readonly #silent: (silenceMs: number) => void;
  /** In the order in which they were asked. */
  readonly #asked = new Map<number, Asked>();
  #gathered: ClientFrame[] = [];
  #deliver: ((frames: readonly ClientFrame[]) => void) | undefined;
  #lastId = 0;
  #heardMs = 0;
  #patience = 1;
  #watching: Cancel | undefined;

  /** `silent` is told when the server said nothing for `answerMs` while an answer was due. */
  constructor(clock: ClientClock, answerMs: number, silent: (silenceMs: number) => void) {
    this.#clock = clock;
    this.#answerMs = answerMs;
    this.#silent = silent;
  }

  get live(): boolean {
    return this.#deliver !== undefined;
  }

  up(deliver: (frames: readonly ClientFrame[]) => void): void {
    this.#deliver = deliver;
  }

  /** The link is gone: what was asked through it gets no answer. */
  down(): void {
    this.#deliver = undefined;
    this.#gathered = [];
    this.#asked.clear();
    this.#watching?.();
    this.#watching = undefined;
  }

  /** Goes out with this turn's batch. Only while live; the answer comes unless the link ends first. */
  ask(frame: Ask, answered: (answer: Answer) => void): void {
    this.#lastId = this.#lastId >= requestIdMax ? 1 : this.#lastId + 1;
    this.#asked.set(this.#lastId, { answered, askedMs: this.#clock.monotonic() });
    if (this.#watching === undefined) this.#watchFor(this.#answerMs * this.#patience);
    this.#gather(this.#lastId, frame);
  }

  /** What no answer belongs to. */
  tell(frame: Ask): void {
    this.#lastId = this.#lastId >= requestIdMax ? 1 : this.#lastId + 1;
    this.#gather(this.#lastId, frame);
  }

  /** Hears every frame. False: nobody asked for it. */
  answer(frame: ServerFrame): boolean {
    this.#heardMs = this.#clock.monotonic();
    const asked = this.#asked.get(frame.requestId);
    if (asked === undefined) return false;
    this.#asked.delete(frame.requestId);
    if (this.#patience > 1) {
      this.#patience = 1;
      this.#watching?.();
      this.#watchFor(this.#answerMs);
    }
    asked.answered(frame.frame);
    return true;
  }

  #watchFor(ms: number): void {
    this.#watching = this.#clock.after(ms, () => {
      this.#watching = undefined;
      const [oldest] = this.#asked.values();
      if (oldest === undefined) return;
      const silenceMs = this.#answerMs * this.#patience;
      const sinceMs = Math.max(this.#heardMs, oldest.askedMs);
      const leftMs = sinceMs + silenceMs - this.#clock.monotonic();
      if (leftMs > 0) {
        this.#watchFor(leftMs);
        return;
      }
      this.#patience = Math.min(2 * this.#patience, patienceMax);
      this.#silent(silenceMs);
    });
  }

  #gather(requestId: number, frame: Ask): void {
    if (this.#deliver === undefined) return;
    this.#gathered.push(create(ClientFrameSchema, { requestId, frame }));
    if (this.#gathered.length > 1) return;
    this.#clock.afterTurn(() => {
      const frames = this.#gathered;
      this.#gathered = [];
      if (frames.length > 0) this.#deliver?.(frames);
    });
  }
}
