/** Tells that the user is typing, at most once in a while for each conversation. */
import { create } from "@bufbuild/protobuf";
import { SetTypingRequestSchema } from "../proto/gen/parley/v1/chat_pb.ts";
import type { Requests } from "./requests.ts";
import type { ClientClock } from "./surroundings.ts";

const conversationsMax = 1_000;

export class Typing {
  readonly #requests: Requests;
  readonly #clock: ClientClock;
  readonly #everyMs: number;
  readonly #toldMs = new Map<string, number>();

  constructor(requests: Requests, clock: ClientClock, everyMs: number) {
    this.#requests = requests;
    this.#clock = clock;
    this.#everyMs = everyMs;
  }

  /** Not at all while offline: it would be stale by the time it came. */
  tell(conversationId: string): void {
    const nowMs = this.#clock.monotonic();
    const lastMs = this.#toldMs.get(conversationId);
    const soon = lastMs !== undefined && nowMs - lastMs < this.#everyMs;
    if (soon || !this.#requests.live) return;
    if (this.#toldMs.size >= conversationsMax) this.#toldMs.clear();
    this.#toldMs.set(conversationId, nowMs);
    const value = create(SetTypingRequestSchema, { conversationId });
    this.#requests.tell({ case: "setTyping", value });
  }
}
