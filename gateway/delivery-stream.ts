/** The stream to one delivery process: operations out in batches, outcomes back. It does not know which shards are that process's. */
import { createClient } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import { unavailable } from "../mesh/errors.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { Peer } from "../mesh/peers.ts";
import { Gather } from "../mesh/pipe.ts";
import { keepStream } from "../mesh/stream.ts";
import type { KeptStream } from "../mesh/stream.ts";
import { DeliveryService } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import type {
  ExchangeRequest,
  Operation,
  Outcome,
} from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { Pending } from "./pending.ts";
import { RefusedSends } from "./refused-sends.ts";
import { told } from "./waiting.ts";
import type { Waiting } from "./waiting.ts";

/** Operations that are sent or held, over all streams. */
export const operationsMax = 100_000;
/** Where more than so many operations wait to be written, typing is not told. */
const typingMax = 1_000;
/** A process that owes so many outcomes whose time is over does not answer: its stream is opened anew. */
const overdueMax = 10_000;
/** What one request holds at most, so that it passes the limits of gRPC however much has gathered. */
const requestMaxBytes = 1_048_576;
const operationBytes = 256;

/** What a stream tells of itself. */
export interface StreamEvents {
  opened(stream: DeliveryStream): void;
  settled(stream: DeliveryStream, waiting: Waiting, outcome: Outcome["outcome"]): void;
  /** Those under way, in the order in which they were sent: whether they were done is not known. */
  broken(stream: DeliveryStream, unknown: readonly Waiting[]): void;
}

export class DeliveryStream {
  readonly client: Client<typeof DeliveryService>;
  readonly #surroundings: Surroundings;
  readonly #log: Surroundings["log"];
  readonly #events: StreamEvents;
  readonly #pending = new Pending<Waiting>();
  #gather: Gather<Operation> | undefined;
  /** Outcomes of the present stream that say "try again". */
  #refusals = 0;
  readonly #refused = new RefusedSends();
  #kept: KeptStream | undefined;

  constructor(surroundings: Surroundings, { id, transport }: Peer, events: StreamEvents) {
    this.#surroundings = surroundings;
    this.#log = surroundings.log.child({ delivery: id });
    this.#events = events;
    this.client = createClient(DeliveryService, transport);
  }

  get up(): boolean {
    return this.#gather !== undefined;
  }

  start(): void {
    const surroundings = { ...this.#surroundings, log: this.#log };
    this.#kept = keepStream(surroundings, "gateway to delivery", (signal) => this.#run(signal));
  }

  /** It is down at once. */
  async close(): Promise<void> {
    this.#down();
    await this.#kept?.close();
  }

  /** Sends an operation, whose id is given here. Only where the stream is up. */
  send(waiting: Waiting, operation: Operation): void {
    waiting.operation = operation;
    operation.operationId = this.#pending.add(waiting);
    operation.refusalsSeen = this.#refusals + 1;
    // There is room always. A stream that has ended takes nothing more: it is down soon, and the outcome unknown.
    this.#gather?.add(operation);
  }

  /** For operations that have no outcome; lost where the stream is down or slow. */
  tell(operation: Operation): void {
    if (this.#gather !== undefined && this.#gather.size < typingMax) this.#gather.add(operation);
  }

  /** Whether a send that this stream gives back left before it was known that one before it was refused and comes again. */
  isBehindRefused(waiting: Waiting): boolean {
    return this.#refused.follows(waiting);
  }

  /** Those whose time is over. Their outcomes may come still: whoever tells those who wait says so in `untilMs`. */
  expired(nowMs: number): Waiting[] {
    const over: Waiting[] = [];
    let overdue = 0;
    for (const waiting of this.#pending) {
      if (waiting.untilMs > nowMs) continue;
      overdue += 1;
      if (waiting.untilMs !== told) over.push(waiting);
    }
    if (overdue > overdueMax) this.#gather?.end(unavailable("delivery owes too many outcomes"));
    return over;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const gather = new Gather<Operation>(this.#surroundings.clock, operationsMax + typingMax);
    this.#gather = gather;
    this.#refusals = 0;
    this.#refused.clear();
    this.#events.opened(this);
    try {
      const requests = requestsOf(gather);
      for await (const { outcomes } of this.client.exchange(requests, { signal }))
        this.#settle(outcomes);
    } finally {
      gather.end();
      this.#down();
    }
  }

  #settle(outcomes: readonly Outcome[]): void {
    for (const { operationId, outcome } of outcomes) {
      if (saysAgain(outcome)) this.#refusals += 1;
      const waiting = this.#pending.take(operationId);
      if (waiting === undefined) continue;
      if (outcome.case === "refused" && outcome.value.retryAfterMs > 0) {
        const [oldest] = this.#pending;
        const leastSeen = oldest?.operation?.refusalsSeen ?? this.#refusals;
        this.#refused.refused(waiting, this.#refusals, leastSeen);
      }
      this.#events.settled(this, waiting, outcome);
    }
  }

  #down(): void {
    if (this.#gather === undefined) return;
    this.#gather = undefined;
    this.#events.broken(this, this.#pending.takeAll());
  }
}

function saysAgain(outcome: Outcome["outcome"]): boolean {
  if (outcome.case === "refused") return outcome.value.retryAfterMs > 0;
  return outcome.case === "notOwner";
}

async function* requestsOf(gather: Gather<Operation>): AsyncGenerator<ExchangeRequest, undefined> {
  const $typeName = "parley.delivery.v1.ExchangeRequest";
  for await (const operations of gather) {
    let from = 0;
    let bytes = 0;
    for (let at = 0; at < operations.length; at += 1) {
      const what = operations[at]?.operation;
      bytes += operationBytes + (what?.case === "send" ? what.value.content.length : 0);
      if (bytes < requestMaxBytes) continue;
      yield { $typeName, operations: operations.slice(from, at + 1) };
      from = at + 1;
      bytes = 0;
    }
    if (from < operations.length)
      yield { $typeName, operations: from === 0 ? operations : operations.slice(from) };
  }
  return undefined;
}
