/** Numbers requests, gathers a turn's frames into one batch, and brings each answer to whoever asked. */
import { create } from "@bufbuild/protobuf";
import {
  ClientFrameSchema,
  type ClientFrame,
  type ServerFrame,
} from "../proto/gen/parley/v1/frame_pb.ts";
import type { Answer, Ask } from "./frames.ts";
import type { ClientClock } from "./surroundings.ts";

const requestIdMax = 0xffff_fffe;

export class Requests {
  readonly #clock: ClientClock;
  readonly #asked = new Map<number, (answer: Answer) => void>();
  #gathered: ClientFrame[] = [];
  #deliver: ((frames: readonly ClientFrame[]) => void) | undefined;
  #lastId = 0;

  constructor(clock: ClientClock) {
    this.#clock = clock;
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
  }

  /** Goes out with this turn's batch. Only while live; the answer comes unless the link ends first. */
  ask(frame: Ask, answered: (answer: Answer) => void): void {
    this.#lastId = this.#lastId >= requestIdMax ? 1 : this.#lastId + 1;
    this.#asked.set(this.#lastId, answered);
    this.#gather(this.#lastId, frame);
  }

  /** What no answer belongs to. */
  tell(frame: Ask): void {
    this.#lastId = this.#lastId >= requestIdMax ? 1 : this.#lastId + 1;
    this.#gather(this.#lastId, frame);
  }

  /** False: nobody asked for it. */
  answer(frame: ServerFrame): boolean {
    const answered = this.#asked.get(frame.requestId);
    if (answered === undefined) return false;
    this.#asked.delete(frame.requestId);
    answered(frame.frame);
    return true;
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
