/** What a gateway counts: who is here, what comes in and goes out, how long acks take, what comes again, why connections end. */
import type { Clock } from "../mesh/clock.ts";
import { type Count, type Metrics, type Spread, secondsBounds } from "../mesh/metrics.ts";
import { CloseReason } from "../proto/gen/parley/v1/chat_pb.ts";
import type { Connections } from "./connections.ts";

/** As the label has them. */
const reasons: Readonly<Record<CloseReason, string>> = {
  [CloseReason.UNSPECIFIED]: "unspecified",
  [CloseReason.DRAINING]: "draining",
  [CloseReason.SLOW]: "slow",
  [CloseReason.SILENT]: "silent",
  [CloseReason.RATE]: "rate",
  [CloseReason.ELSEWHERE]: "elsewhere",
  [CloseReason.UNAUTHENTICATED]: "unauthenticated",
  [CloseReason.PROTOCOL]: "protocol",
  [CloseReason.REPLACED]: "replaced",
};

export class Meter {
  /** Records pushed, each device's by itself. */
  readonly pushes: Count;
  /** Messages that a device says it has sent before. */
  readonly retries: Count;
  /** Records pushed again, as they were not acked. */
  readonly pushesAgain: Count;
  readonly #clock: Clock;
  readonly #sends: Count;
  readonly #sendFailures: Count;
  readonly #ackSeconds: Spread;
  readonly #closes: ReadonlyMap<CloseReason, Count>;

  constructor(clock: Clock, metrics: Metrics, connections: Connections) {
    this.#clock = clock;
    this.#sends = metrics.count("parley_gateway_sends_total", "Messages that clients sent.");
    this.#sendFailures = metrics.count(
      "parley_gateway_send_failures_total",
      "Messages that were refused or failed; a client may try again.",
    );
    this.#ackSeconds = metrics.spread(
      "parley_gateway_ack_seconds",
      "From a client's message to the answer that it is kept.",
      secondsBounds,
    );
    this.retries = metrics.count(
      "parley_gateway_retries_total",
      "Messages that devices sent again.",
    );
    this.pushesAgain = metrics.count(
      "parley_gateway_pushes_again_total",
      "Records that were pushed again because a device did not ack them.",
    );
    this.pushes = metrics.count(
      "parley_gateway_pushes_total",
      "Records pushed over WebSockets, each device's by itself.",
    );
    const closes = "parley_gateway_closes_total";
    const what = "Connections that the gateway ended, by why.";
    this.#closes = new Map(
      Object.values(CloseReason)
        .filter((reason) => typeof reason === "number")
        .map((reason) => [reason, metrics.count(closes, what, { reason: reasons[reason] })]),
    );
    metrics.level("parley_gateway_connections", "Connections of devices.", () => connections.size);
    metrics.level(
      "parley_gateway_outbox_bytes",
      "Bytes that wait to be read by devices, all connections together.",
      () => {
        let bytes = 0;
        for (const { outboxBytes } of connections.all()) bytes += outboxBytes;
        return bytes;
      },
    );
  }

  /** A message goes to delivery. What it returns is for `sent`. */
  sending(): number {
    this.#sends.add();
    // A whole number costs no memory of its own.
    return Math.floor(this.#clock.monotonic());
  }

  /** It is durable, and its sender is told so. */
  sent(beganMs: number): void {
    this.#ackSeconds.observe((this.#clock.monotonic() - beganMs) / 1_000);
  }

  /** It was refused, or nobody knows what became of it. */
  sendFailed(): void {
    this.#sendFailures.add();
  }

  closed(reason: CloseReason): void {
    this.#closes.get(reason)?.add();
  }
}
