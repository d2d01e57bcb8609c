/** One stream of batches: hands them to the store in their order and answers each when it is known what became of it. */
import { ConnectError } from "@connectrpc/connect";
import { overloaded, unavailable } from "../mesh/errors.ts";
import { Pipe } from "../mesh/pipe.ts";
import type { AppendRequest, AppendResponse } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { Stage } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { UnknownOutcome } from "./errors.ts";
import { type Metrics, type Spread, secondsBounds } from "../mesh/metrics.ts";
import type { Clock } from "../mesh/clock.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { Span, Tracer } from "../mesh/trace.ts";
import type { Store } from "./ports.ts";

/** Batches of one stream that may be under way; more are not read before one is answered. */
const underWayMax = 64;
/** Answers that may wait for their reader: beyond that the stream ends. */
const answersMax = 1_024;

const answer = (batchId: bigint, stage: Stage, error?: ConnectError): AppendResponse => ({
  $typeName: "parley.storage.v1.AppendResponse",
  batchId,
  stage,
  code: error?.code ?? 0,
  message: error?.rawMessage ?? "",
});

/** How long the store takes: for a batch, for each kind of call. */
export class StoreMeter {
  readonly #clock: Clock;
  readonly #seconds: Spread;
  readonly #metrics: Metrics;
  readonly #tracer: Tracer | undefined;

  constructor({ clock, metrics, tracer }: Pick<Surroundings, "clock" | "metrics" | "tracer">) {
    this.#tracer = tracer;
    this.#clock = clock;
    this.#metrics = metrics;
    this.#seconds = metrics.spread(
      "parley_storage_commit_seconds",
      "From a batch to its being durable in the store.",
      secondsBounds,
    );
  }

  /** To be called when what begins now is durable; after the first time it does nothing. */
  began(): () => void {
    const beganMs = this.#clock.monotonic();
    let told = false;
    return () => {
      if (!told) this.#seconds.observe((this.#clock.monotonic() - beganMs) / 1_000);
      told = true;
    };
  }

  /** The steps of those of a batch that are followed; undefined: none is. */
  followed({ traces, writes }: AppendRequest): readonly Span[] | undefined {
    const tracer = this.#tracer;
    if (tracer === undefined || traces.length === 0) return undefined;
    const attributes = { "parley.conversations": writes.length };
    return traces.map((trace) => tracer.step(trace, "storage append", attributes));
  }

  /** The handler, measured. */
  timed<I, O>(call: string, handler: (request: I) => Promise<O>): (request: I) => Promise<O> {
    const name = "parley_storage_call_seconds";
    const what = "From a call other than a batch to its answer.";
    const seconds = this.#metrics.spread(name, what, secondsBounds, { call });
    return async (request) => {
      const beganMs = this.#clock.monotonic();
      try {
        return await handler(request);
      } finally {
        seconds.observe((this.#clock.monotonic() - beganMs) / 1_000);
      }
    };
  }
}

export function appendStream(
  store: Store,
  meter: StoreMeter,
  requests: AsyncIterable<AppendRequest>,
): AsyncIterable<AppendResponse> {
  const stream = new AppendStream(store, meter);
  void stream.run(requests);
  return stream.answers;
}

class AppendStream {
  readonly answers = new Pipe<AppendResponse>(answersMax);
  readonly #store: Store;
  readonly #meter: StoreMeter;
  #underWay = 0;
  #fewer: (() => void) | undefined;

  constructor(store: Store, meter: StoreMeter) {
    this.#store = store;
    this.#meter = meter;
  }

  async run(requests: AsyncIterable<AppendRequest>): Promise<void> {
    try {
      for await (const request of requests) {
        await this.#below(underWayMax);
        if (this.answers.ended) return;
        this.#underWay += 1;
        void this.#keep(request);
      }
      await this.#below(1);
      this.answers.end();
    } catch (error) {
      this.answers.end(error);
    }
  }

  async #below(max: number): Promise<void> {
    while (this.#underWay >= max) await new Promise<void>((resolve) => (this.#fewer = resolve));
  }

  async #keep(request: AppendRequest): Promise<void> {
    const { batchId } = request;
    const spans = this.#meter.followed(request);
    try {
      const committed = this.#meter.began();
      await this.#store.append(request, () => {
        committed();
        spans?.forEach((span) => span.note("committed"));
        this.#answer(answer(batchId, Stage.COMMITTED));
      });
      committed();
      spans?.forEach((span) => span.end());
      this.#answer(answer(batchId, Stage.INDEXED));
    } catch (error) {
      spans?.forEach((span) => span.end(ConnectError.from(error).rawMessage));
      // Another instance knows better what became of it: the caller sends it again there.
      if (error instanceof UnknownOutcome) this.answers.end(unavailable(error.message));
      else this.#answer(answer(batchId, Stage.FAILED, ConnectError.from(error)));
    }
    this.#underWay -= 1;
    this.#fewer?.();
  }

  #answer(response: AppendResponse): void {
    if (this.answers.offer(response) || this.answers.ended) return;
    this.answers.end(overloaded("the answers to appended batches are not read"));
  }
}
