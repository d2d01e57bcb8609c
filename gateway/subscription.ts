/** Connect's ways to be told: the Subscribe stream and the long poll. Both attach first and sync second, as a WebSocket does. */
import type { Clock } from "../mesh/clock.ts";
import { sleep } from "../mesh/clock.ts";
import { abortError, overloaded, unavailable } from "../mesh/errors.ts";
import { Pipe } from "../mesh/pipe.ts";
import type { Random } from "../mesh/random.ts";
import { CloseReason } from "../proto/gen/parley/v1/chat_pb.ts";
import type {
  Goodbye,
  SubscribeRequest,
  SubscribeResponse,
  SyncRequest,
} from "../proto/gen/parley/v1/chat_pb.ts";
import { goOnMs } from "./admission.ts";
import { firstPage } from "./calls.ts";
import type { GatewayConfig } from "./config.ts";
import type { Connections, Inspected, Recipient } from "./connections.ts";
import type { Elsewhere } from "./elsewhere.ts";
import type { Caller } from "./ports.ts";
import { SharedPush } from "./pushes.ts";
import { syncResponseOf } from "./reads.ts";
import type { Reads, SyncPage } from "./reads.ts";
import type { SessionLinks } from "./session-links.ts";
import type { Heartbeating, Round } from "./sweep.ts";
import type { PresenceLinks } from "./watches.ts";

const eventsMax = 1_024;
/** A push may come a little before the index shows what it is about. */
const indexWaitsMs = [0, 20, 40, 80, 160, 320];

export interface StreamsParts {
  readonly config: GatewayConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly connections: Connections;
  readonly elsewhere: Elsewhere;
  readonly session: SessionLinks;
  readonly presence: PresenceLinks;
  readonly reads: Reads;
}

type Event = { readonly push: SharedPush } | { readonly headSum: bigint | undefined };

/** A connection that is a stream or a poll. What it is told waits, within bounds, for whoever reads. */
class Subscription implements Recipient, Heartbeating {
  readonly number: number;
  readonly kind: "subscribe" | "poll";
  readonly userId: string;
  readonly deviceId: string;
  readonly sinceMs: number;
  readonly remoteAddress = "";
  readonly events = new Pipe<Event>(eventsMax);
  /** Resolves when session knows it, or when it is over. */
  readonly ready: Promise<void>;
  /** What the stream ends with, where there is something to say. */
  goodbye: Goodbye | undefined;
  readonly #parts: StreamsParts;
  #tellReady: () => void = () => {};
  #isAttached = false;
  #isSynced = false;
  #missed = false;
  #bytes = 0;
  #beatMs: number;
  #beatsToSum = 0;

  constructor(parts: StreamsParts, kind: "subscribe" | "poll", { userId, deviceId }: Caller) {
    this.#parts = parts;
    this.number = parts.connections.next();
    this.kind = kind;
    this.userId = userId;
    this.deviceId = deviceId;
    this.sinceMs = parts.clock.now();
    this.#beatMs = parts.clock.monotonic();
    this.ready = new Promise((resolve) => (this.#tellReady = resolve));
  }

  get outboxBytes(): number {
    return this.#bytes;
  }

  attached(): void {
    this.#isAttached = true;
    this.#tellReady();
  }

  /** What it lacked was told: from now on it must keep up. */
  synced(): void {
    this.#isSynced = true;
    if (!this.#missed) return;
    this.#offer({ push: new SharedPush({ case: "resync", value: true }) }, 0);
  }

  push(push: SharedPush, _nowMs: number): void {
    const { case: kind } = push.payload;
    if (this.kind === "poll" && (kind === "typing" || kind === "presences")) return;
    this.#offer({ push }, push.bytes);
  }

  #offer(event: Event, bytes: number): void {
    const room = this.#bytes + bytes <= this.#parts.config.outboxMaxBytes;
    if (room && this.events.offer(event)) {
      this.#bytes += bytes;
      return;
    }
    this.#missed = true;
    if (!this.#isSynced || this.kind === "poll") return;
    this.end(CloseReason.SLOW, "the device does not read fast enough", 0);
  }

  /** The event as a client is told it. */
  read(event: Event): SubscribeResponse {
    const $typeName = "parley.v1.SubscribeResponse";
    if ("push" in event) {
      this.#bytes -= event.push.bytes;
      return { $typeName, event: { case: "pushed", value: event.push.pushed } };
    }
    const { headSum } = event;
    const value = {
      $typeName: "parley.v1.Heartbeat",
      ...(headSum === undefined ? {} : { headSum }),
    } as const;
    return { $typeName, event: { case: "heartbeat", value } };
  }

  acked(): void {}

  /** What is pushed here is not acked: whoever reads it says so by a cursor. */
  inspect(): Inspected {
    const told = this.#isSynced || this.kind === "poll";
    const attached = told ? "live" : "syncing";
    return { stage: this.#isAttached ? attached : "attaching", unacked: undefined };
  }

  heartbeat(headSum: bigint | undefined): void {
    this.#offer({ headSum }, 0);
  }

  tick(nowMs: number, round: Round): void {
    const { config } = this.#parts;
    if (!this.#isAttached && this.#parts.clock.now() - this.sinceMs >= config.helloMs) {
      this.end(CloseReason.DRAINING, "not ready yet", 1_000);
      return;
    }
    if (this.kind === "poll" || nowMs - this.#beatMs < config.heartbeatMs) return;
    this.#beatMs = nowMs;
    if (this.#beatsToSum > 0) {
      this.#beatsToSum -= 1;
      this.heartbeat(undefined);
    } else {
      this.#beatsToSum = config.headSumEvery - 1;
      round.heartbeatWithSum(this);
    }
  }

  end(reason: CloseReason, _text: string, reconnectAfterMs: number, url = ""): void {
    this.goodbye ??= { $typeName: "parley.v1.Goodbye", reason, reconnectAfterMs, url };
    this.stop();
  }

  /** Ends it without a word. */
  stop(): void {
    this.#tellReady();
    this.events.end();
  }
}

const unchanged = ({ deltas, complete }: SyncPage): boolean => deltas.length === 0 && complete;

export class Streams {
  readonly #parts: StreamsParts;

  constructor(parts: StreamsParts) {
    this.#parts = parts;
  }

  async *subscribe(
    caller: Caller,
    { token, recordsPerConversation }: SubscribeRequest,
    signal: AbortSignal,
  ): AsyncGenerator<SubscribeResponse, undefined> {
    const $typeName = "parley.v1.SubscribeResponse";
    const url = this.#parts.elsewhere.homeOf(caller.region ?? "");
    if (url !== "") {
      yield { $typeName, event: { case: "goodbye", value: this.#goOn(url) } };
      return undefined;
    }
    const subscription = this.#open("subscribe", caller);
    const stop = (): void => subscription.stop();
    signal.addEventListener("abort", stop);
    try {
      await subscription.ready;
      if (!subscription.events.ended && !signal.aborted) {
        const { reads } = this.#parts;
        for await (const page of reads.sync(caller.userId, token, recordsPerConversation, signal)) {
          yield { $typeName, event: { case: "sync", value: syncResponseOf(page) } };
        }
        subscription.synced();
        for await (const event of subscription.events) yield subscription.read(event);
      }
      const { goodbye } = subscription;
      if (goodbye !== undefined) yield { $typeName, event: { case: "goodbye", value: goodbye } };
    } finally {
      signal.removeEventListener("abort", stop);
      this.#close(subscription);
    }
    return undefined;
  }

  /** A sync's first page; where nothing has changed, that of a later moment. */
  async poll(caller: Caller, request: SyncRequest, signal?: AbortSignal): Promise<SyncPage> {
    const poll = this.#open("poll", caller);
    const stop = (): void => poll.stop();
    const cancel = this.#parts.clock.after(request.waitMs, stop);
    signal?.addEventListener("abort", stop);
    try {
      await poll.ready;
      let page = await this.#page(caller, request, signal);
      while (unchanged(page)) {
        const next = await poll.events.next();
        if (signal?.aborted === true) throw abortError(signal);
        if (next.done === true) return await this.#page(caller, request, signal);
        page = await this.#pageWhenIndexed(caller, request, signal);
      }
      return page;
    } finally {
      cancel();
      signal?.removeEventListener("abort", stop);
      this.#close(poll);
    }
  }

  /** For a user who belongs to another region. */
  #goOn(url: string): Goodbye {
    const reconnectAfterMs = Math.ceil(this.#parts.random.unit() * goOnMs);
    return {
      $typeName: "parley.v1.Goodbye",
      reason: CloseReason.ELSEWHERE,
      reconnectAfterMs,
      url,
    };
  }

  #page(caller: Caller, request: SyncRequest, signal?: AbortSignal): Promise<SyncPage> {
    return firstPage(this.#parts.reads, caller.userId, request, signal);
  }

  async #pageWhenIndexed(
    caller: Caller,
    request: SyncRequest,
    signal?: AbortSignal,
  ): Promise<SyncPage> {
    let page = await this.#page(caller, request, signal);
    for (const waitMs of indexWaitsMs) {
      if (!unchanged(page)) break;
      await sleep(this.#parts.clock, waitMs, signal);
      page = await this.#page(caller, request, signal);
    }
    return page;
  }

  #open(kind: "subscribe" | "poll", caller: Caller): Subscription {
    const { connections, session } = this.#parts;
    if (connections.closed) throw unavailable("this gateway is going away", 1_000);
    if (connections.full) throw overloaded("this gateway has too many connections", 5_000);
    const subscription = new Subscription(this.#parts, kind, caller);
    if (!connections.join(subscription)) throw overloaded("you have too many connections", 60_000);
    connections.add(subscription);
    session.attach(subscription);
    return subscription;
  }

  #close(subscription: Subscription): void {
    const { connections, session, presence } = this.#parts;
    subscription.stop();
    session.detach(subscription);
    presence.ended(subscription.number);
    connections.remove(subscription);
  }
}
