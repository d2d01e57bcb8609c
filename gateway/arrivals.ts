/** What a gateway notes of records that session pushes: how long they were on their way, and the last steps of those that are followed. */
import type { Clock } from "../mesh/clock.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { type Spread, secondsBounds } from "../mesh/metrics.ts";
import type { Tracer } from "../mesh/trace.ts";
import type { Push } from "../proto/gen/parley/session/v1/session_pb.ts";
import { ageMs } from "./frames.ts";

export class Arrivals {
  readonly #clock: Clock;
  readonly #tracer: Tracer | undefined;
  readonly #seconds: Spread;

  constructor({ clock, metrics, tracer }: Pick<Surroundings, "clock" | "metrics" | "tracer">) {
    this.#clock = clock;
    this.#tracer = tracer;
    this.#seconds = metrics.spread(
      "parley_gateway_push_seconds",
      "From when delivery took a message to its frames for devices: of each batch the first message, by the clocks of both machines.",
      secondsBounds,
    );
  }

  /** The first record of a batch goes to its devices now. */
  record(record: Uint8Array): void {
    const sinceMs = ageMs(record, this.#clock.now());
    if (sinceMs !== undefined) this.#seconds.observe(sinceMs / 1_000);
  }

  /** One that is followed goes into its devices' frames, which are written when the present turn is done. */
  followed(context: Uint8Array, { connections, payload }: Push): void {
    const record = payload?.payload.case === "record" ? payload.payload.value : undefined;
    const span = this.#tracer?.step(context, "gateway push", {
      "parley.conversation": record?.conversationId ?? "",
      "parley.seq": record?.seq ?? 0,
      "parley.connections": connections.join(" "),
    });
    if (span !== undefined) this.#clock.afterTurn(() => span.end());
  }
}
