/** A WebSocket connection as a state machine: what it may do when, what waits for it, when it ends. It must not know what the calls do. */
import { CloseReason } from "../proto/gen/parley/v1/chat_pb.ts";
import type { Inspected, Recipient } from "./connections.ts";
import { readBatch } from "./frames.ts";
import type { Chunk, InFrame } from "./frames.ts";
import { HeldPushes } from "./held.ts";
import { Encoded, Outbox } from "./outbox.ts";
import type { OutFrame } from "./outbox.ts";
import type { Caller } from "./ports.ts";
import { SharedPush } from "./pushes.ts";
import { inspected } from "./state.ts";
import type { Admitting, Live, Shared, State, Wire } from "./state.ts";
import type { Heartbeating, Round } from "./sweep.ts";
import { TokenBucket } from "./rate.ts";
import { Unacked } from "./unacked.ts";
import { ProtocolError } from "./wire.ts";

const heldFramesMax = 1_024;
/** How long a socket may take to close. */
const closingMs = 5_000;
/** Clients that were sent away come back within so long. */
export const comeBackMs = 5_000;

export class Connection implements Recipient, Heartbeating {
  readonly kind = "websocket";
  readonly number: number;
  readonly sinceMs: number;
  readonly remoteAddress: string;
  readonly #openedMs: number;
  readonly #shared: Shared;
  readonly #wire: Wire;
  readonly #outbox = new Outbox();
  readonly #bucket: TokenBucket;
  #state: State;
  #userId = "";
  #deviceId = "";
  #marked = false;
  #paused = false;
  #calls = 0;
  #heardMs: number;
  #beatMs: number;
  /** Heartbeats until the next one with a head sum. */
  #beatsToSum = 0;

  constructor(shared: Shared, wire: Wire, number: number, token: string, remoteAddress: string) {
    const nowMs = shared.clock.monotonic();
    this.#shared = shared;
    this.#wire = wire;
    this.number = number;
    this.remoteAddress = remoteAddress;
    this.sinceMs = shared.clock.now();
    this.#openedMs = nowMs;
    this.#heardMs = nowMs;
    this.#beatMs = nowMs;
    this.#bucket = new TokenBucket(nowMs, shared.config);
    this.#state = { t: "greeting", token };
  }

  get state(): State {
    return this.#state;
  }

  get userId(): string {
    return this.#userId;
  }

  get deviceId(): string {
    return this.#deviceId;
  }

  get outboxBytes(): number {
    return this.#outbox.bytes + this.#wire.bufferedAmount;
  }

  inspect(conversationId: string, nowMs: number): Inspected {
    return inspected(this.#state, conversationId, nowMs);
  }

  /** A WebSocket message came. */
  receive(data: Buffer, isBinary: boolean): void {
    if (this.#state.t === "draining" || this.#state.t === "closed") return;
    const { clock, config } = this.#shared;
    const nowMs = clock.monotonic();
    this.#heardMs = nowMs;
    if (!isBinary) return this.#breach("a text message: send binary ones, a ClientBatch each");
    if (data.length === 0) return this.#breach("an empty message: a batch has a frame at least");
    try {
      const frames = readBatch(data, config.maxFramesPerBatch);
      if (!this.#bucket.take(nowMs, frames.length, data.length)) return this.#tooFast();
      for (const frame of frames) this.#receiveFrame(frame);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#breach(error.message);
    }
  }

  /** A ping came. Answers whether it gets its pong, which costs as much as a frame, and waits for a device that does not read as all else does. */
  pinged(bytes: number): boolean {
    if (this.#state.t === "draining" || this.#state.t === "closed") return false;
    const { clock, config } = this.#shared;
    const nowMs = clock.monotonic();
    this.#heardMs = nowMs;
    if (!this.#bucket.take(nowMs, 1, bytes)) this.#tooFast();
    else if (this.outboxBytes + bytes > config.outboxMaxBytes) this.#tooSlow();
    else return true;
    return false;
  }

  #receiveFrame(frame: InFrame): void {
    const state = this.#state;
    switch (state.t) {
      case "greeting":
        this.#shared.greeted(this, state.token, frame);
        return;
      case "admitting":
        if (state.held.length >= heldFramesMax) throw new ProtocolError("wait for the Welcome");
        state.held.push(frame);
        return;
      case "live":
        this.#shared.asked(this, state, frame);
        return;
      case "draining":
      case "closed":
    }
  }

  /** greeting → admitting. Nothing more is read until the device is admitted. */
  admit(helloId: number, syncToken: Uint8Array, recordsPerConversation: number): Admitting {
    const untilMs = this.#shared.clock.monotonic() + this.#shared.config.helloMs;
    const admitting: Admitting = {
      t: "admitting",
      helloId,
      syncToken,
      recordsPerConversation,
      held: [],
      untilMs,
      expiresMs: Infinity,
    };
    this.#state = admitting;
    this.#wire.pause();
    return admitting;
  }

  name(userId: string, deviceId: string): void {
    this.#userId = userId;
    this.#deviceId = deviceId;
  }

  attached(): void {
    if (this.#state.t === "admitting") this.#shared.admitted(this, this.#state);
  }

  /** admitting → live. Pushes are held until `synced`. */
  welcome(caller: Caller, admitting: Admitting, welcome: Chunk): void {
    this.#state = {
      t: "live",
      caller,
      expiresMs: admitting.expiresMs,
      held: new HeldPushes(this.#shared.config.outboxMaxBytes),
      unacked: undefined,
      order: undefined,
      underWay: undefined,
      sends: 0,
      checking: undefined,
      conversationId: "",
      running: 0,
      waiting: undefined,
    };
    this.queueChunk(welcome);
    this.#wire.resume();
    try {
      for (const frame of admitting.held) this.#receiveFrame(frame);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#breach(error.message);
    }
  }

  /** The device has been told all that it lacked: what was pushed meanwhile follows. */
  synced(): void {
    if (this.#state.t !== "live" || this.#state.held === undefined) return;
    const { pushes, overflowed } = this.#state.held;
    this.#state.held = undefined;
    const nowMs = this.#shared.clock.monotonic();
    if (overflowed) this.#resync();
    for (const push of pushes) this.push(push, nowMs);
  }

  push(push: SharedPush, nowMs: number): void {
    const state = this.#state;
    if (state.t !== "live") return;
    if (state.held !== undefined) return state.held.hold(push);
    const { payload } = push;
    if (payload.case === "record") {
      this.#shared.meter.pushes.add();
      if (!push.isBy(this.#userId)) {
        state.unacked ??= new Unacked();
        state.unacked.pushed(payload.value.conversationId, payload.value.seq, nowMs);
      }
    } else if (payload.case === "cursors") {
      for (const { userId, conversationId, deliveredSeq } of payload.value.cursors) {
        if (userId === this.#userId) this.acked(conversationId, deliveredSeq);
      }
    }
    this.queue(push);
  }

  #resync(): void {
    if (this.#state.t !== "live") return;
    const push = new SharedPush({ case: "resync", value: true });
    this.push(push, this.#shared.clock.monotonic());
  }

  acked(conversationId: string, deliveredSeq: number): void {
    if (this.#state.t !== "live" || this.#state.unacked === undefined) return;
    const { unacked } = this.#state;
    unacked.acked(conversationId, deliveredSeq, this.#shared.clock.monotonic());
  }

  queueChunk(chunk: Chunk): void {
    this.queue(new Encoded(chunk));
  }

  /** Adds a frame to what this turn writes. */
  queue(frame: OutFrame): void {
    if (this.#state.t === "draining" || this.#state.t === "closed") return;
    const waiting = this.outboxBytes;
    if (waiting > 0 && waiting + frame.bytes > this.#shared.config.outboxMaxBytes) {
      this.#tooSlow();
      return;
    }
    this.#outbox.add(frame);
    if (this.#marked) return;
    this.#marked = true;
    this.#shared.flusher.mark(this);
  }

  flush(): void {
    this.#marked = false;
    if (this.#state.t === "closed") return;
    const batch = this.#outbox.take(this.#shared.writer);
    if (batch !== undefined) this.#wire.send(batch);
  }

  /** Writes a large frame, and resolves when the socket has taken it or is closed. */
  async written(chunk: Chunk): Promise<void> {
    this.queueChunk(chunk);
    if (this.#state.t !== "live") return;
    const batch = this.#outbox.take(this.#shared.writer);
    if (batch === undefined) return;
    await new Promise<void>((resolve) => this.#wire.send(batch, () => resolve()));
  }

  /** A call is under way. Above the limit no more are read. */
  began(): void {
    this.#calls += 1;
    if (this.#paused || this.#calls < this.#shared.config.inFlightMax) return;
    this.#paused = true;
    this.#wire.pause();
  }

  /** A call was answered. */
  answered(frame: OutFrame): void {
    this.ended();
    this.queue(frame);
  }

  ended(): void {
    this.#calls -= 1;
    if (!this.#paused || this.#calls >= this.#shared.config.inFlightMax) return;
    this.#paused = false;
    if (this.#state.t === "live") this.#wire.resume();
  }

  failed(requestId: number, code: number, message: string, retryAfterMs: number): void {
    const chunk = this.#shared.writer.failure(requestId, code, message, retryAfterMs);
    this.answered(new Encoded(chunk));
  }

  #tooFast(): void {
    this.end(CloseReason.RATE, "too many frames or bytes in too short a time", comeBackMs);
  }

  #tooSlow(): void {
    this.end(CloseReason.SLOW, "the device does not read fast enough", 0);
  }

  #breach(text: string): void {
    this.queueChunk(this.#shared.writer.failure(0, 3, text, 0));
    this.end(CloseReason.PROTOCOL, text, 0);
  }

  /** → draining: says Goodbye where the socket still takes it, and closes. */
  end(reason: CloseReason, text: string, reconnectAfterMs: number, url = ""): void {
    const { t } = this.#state;
    if (t === "draining" || t === "closed") return;
    const { clock, writer } = this.#shared;
    this.#shared.left(this);
    this.#shared.meter.closed(reason);
    this.#state = { t: "draining", untilMs: clock.monotonic() + closingMs };
    if (reason !== CloseReason.SLOW) {
      const goodbye = { $typeName: "parley.v1.Goodbye", reason, reconnectAfterMs, url } as const;
      this.#outbox.add(new Encoded(writer.other(0, { case: "goodbye", value: goodbye })));
      this.flush();
    } else {
      this.#outbox.clear();
    }
    this.#wire.close(4_000 + reason, closeText(text));
    this.#wire.resume();
  }

  /** → closed: the socket is no more. */
  closed(): void {
    const { t } = this.#state;
    if (t === "closed") return;
    if (t !== "draining") this.#shared.left(this);
    this.#state = { t: "closed" };
    this.#outbox.clear();
    this.#shared.gone(this);
  }

  tick(nowMs: number, round: Round): void {
    const state = this.#state;
    const { helloMs } = this.#shared.config;
    switch (state.t) {
      case "greeting":
        if (nowMs - this.#openedMs < helloMs) return;
        this.end(CloseReason.SILENT, `no Hello within ${helloMs} ms`, 0);
        return;
      case "admitting":
        if (nowMs < state.untilMs) return;
        this.end(CloseReason.DRAINING, "not ready yet", this.#soon());
        return;
      case "live":
        this.#tickLive(state, nowMs, round);
        return;
      case "draining":
        if (nowMs >= state.untilMs) this.#wire.terminate();
        return;
      case "closed":
    }
  }

  #tickLive(live: Live, nowMs: number, round: Round): void {
    const { clock, config } = this.#shared;
    if (clock.now() >= live.expiresMs) {
      this.end(CloseReason.UNAUTHENTICATED, "the token has expired", 0);
      return;
    }
    if (!this.#paused && nowMs - this.#heardMs >= 2 * config.heartbeatMs) {
      this.end(CloseReason.SILENT, "no frame since two heartbeats", 0);
      return;
    }
    if (live.unacked !== undefined) {
      const again = (id: string, fromSeq: number): void => round.pushAgain(this, id, fromSeq);
      if (!live.unacked.due(nowMs, config.unackedRetryMs, config.unackedTries, again)) {
        this.end(CloseReason.SILENT, "what was pushed is not acked", 0);
        return;
      }
      if (live.unacked.size === 0) live.unacked = undefined;
    }
    if (live.order !== undefined) {
      live.order.tidy(nowMs);
      if (live.order.size === 0) live.order = undefined;
    }
    if (nowMs - this.#beatMs < config.heartbeatMs) return;
    this.#beatMs = nowMs;
    if (this.#beatsToSum > 0) {
      this.#beatsToSum -= 1;
      this.heartbeat(undefined);
    } else {
      this.#beatsToSum = config.headSumEvery - 1;
      round.heartbeatWithSum(this);
    }
  }

  heartbeat(headSum: bigint | undefined): void {
    if (this.#state.t !== "live") return;
    const sum = headSum === undefined ? {} : { headSum };
    const value = { $typeName: "parley.v1.Heartbeat", ...sum } as const;
    this.queueChunk(this.#shared.writer.other(0, { case: "heartbeat", value }));
  }

  #soon(): number {
    return Math.ceil(this.#shared.random.unit() * comeBackMs);
  }
}

const closeTextMax = 123;

/** At most as long as a close frame takes. Texts here are ASCII but for what they quote. */
function closeText(text: string): string {
  if (Buffer.byteLength(text) <= closeTextMax) return text;
  return Buffer.from(text)
    .subarray(0, closeTextMax)
    .toString("latin1")
    .replace(/[^ -~]/g, "?");
}
