/** Fetches what is missing between a conversation's records: after a moment, since pushes may just have overtaken one another. */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { HistoryResponseSchema, type HistoryResponse } from "../proto/gen/parley/v1/chat_pb.ts";
import type { Calls } from "./calls.ts";
import type { ClientLimits } from "./options.ts";
import { history } from "./rpc.ts";
import type { ClientClock } from "./surroundings.ts";
import { missing, type Timeline, type TimelineLimits } from "./timeline.ts";

export interface FillerHooks {
  /** Own sends are under way there: their answers may fill the hole. */
  underWay(conversation: string): boolean;
  filled(timeline: Timeline, answer: HistoryResponse): void;
  live(): boolean;
  /** It is not to be had. */
  lost(timeline: Timeline): void;
  failed(error: unknown): void;
}

const fillsMax = 4;
/** How long to wait for the answers of own sends. */
const ownSendsMs = 1_000;
const againMs = 1_000;

export class Filler {
  readonly #calls: Calls;
  readonly #clock: ClientClock;
  readonly #settleMs: number;
  readonly #limits: TimelineLimits;
  readonly #hooks: FillerHooks;
  /** Conversations that wait for a moment or for their turn, or are being filled. */
  readonly #known = new Set<Timeline>();
  readonly #ready: Timeline[] = [];
  #running = 0;

  constructor(
    calls: Calls,
    clock: ClientClock,
    limits: ClientLimits,
    timelineLimits: TimelineLimits,
    hooks: FillerHooks,
  ) {
    this.#calls = calls;
    this.#clock = clock;
    this.#settleMs = limits.gapSettleMs;
    this.#limits = timelineLimits;
    this.#hooks = hooks;
  }

  /** Looks soon whether something is still missing, and fetches it. */
  look(timeline: Timeline): void {
    if (this.#known.has(timeline) || missing(timeline, this.#limits) === undefined) return;
    this.#known.add(timeline);
    this.#settle(timeline, 0);
  }

  #settle(timeline: Timeline, waitedMs: number): void {
    this.#clock.after(this.#settleMs, () => {
      const waited = waitedMs + this.#settleMs;
      if (missing(timeline, this.#limits) === undefined) this.#known.delete(timeline);
      else if (this.#hooks.underWay(timeline.id) && waited < ownSendsMs) {
        this.#settle(timeline, waited);
      } else {
        this.#ready.push(timeline);
        this.#run();
      }
    });
  }

  #run(): void {
    while (this.#running < fillsMax) {
      const timeline = this.#ready.shift();
      if (timeline === undefined) return;
      this.#running += 1;
      void this.#fill(timeline).finally(() => {
        this.#running -= 1;
        this.#run();
      });
    }
  }

  /** One page; what is still missing then is looked for again, in turn with the others. */
  async #fill(timeline: Timeline): Promise<void> {
    const request = missing(timeline, this.#limits);
    let delayMs = 0;
    try {
      if (request !== undefined) delayMs = await this.#page(timeline, request);
    } catch (error) {
      // The next link looks for holes again.
      if (!this.#hooks.live()) {
        this.#known.delete(timeline);
        return;
      }
      const final = error instanceof ConnectError && finalCodes.has(error.code);
      if (final) this.#hooks.lost(timeline);
      else this.#hooks.failed(error);
      delayMs = againMs;
    }
    if (missing(timeline, this.#limits) === undefined) this.#known.delete(timeline);
    else if (delayMs > 0) {
      this.#clock.after(delayMs, () => {
        this.#ready.push(timeline);
        this.#run();
      });
    } else this.#ready.push(timeline);
  }

  async #page(
    timeline: Timeline,
    range: { afterSeq: number; beforeSeq: number; limit: number },
  ): Promise<number> {
    const answer = await history(this.#calls, { conversationId: timeline.id, ...range }).catch(
      notShownYet,
    );
    const before = timeline.next;
    this.#hooks.filled(timeline, answer);
    return timeline.next === before ? againMs : 0;
  }
}

/** A record is pushed once it is committed, and its conversation may be shown only later: an answer without anything. */
function notShownYet(error: unknown): HistoryResponse {
  if (error instanceof ConnectError && error.code === Code.NotFound)
    return create(HistoryResponseSchema);
  throw error;
}

const finalCodes = new Set<Code>([Code.InvalidArgument, Code.PermissionDenied, Code.Unimplemented]);
