/** What a gateway notes of records that session pushes: how long they were on their way. */
import type { Clock } from "../mesh/clock.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { type Spread, secondsBounds } from "../mesh/metrics.ts";
import { ageMs } from "./frames.ts";

export class Arrivals {
  readonly #clock: Clock;
  readonly #seconds: Spread;

  constructor({ clock, metrics }: Pick<Surroundings, "clock" | "metrics">) {
    this.#clock = clock;
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
}
