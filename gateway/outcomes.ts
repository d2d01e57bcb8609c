/** Operations that wait for their outcome. When it is there, the same object is the answer that waits to be written. */
import { Code } from "@connectrpc/connect";
import type { Clock } from "../mesh/clock.ts";
import type { Span } from "../mesh/trace.ts";
import type { Operation, Outcome, Sent } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import type { Connection } from "./connection.ts";
import type { Connections } from "./connections.ts";
import type { Chunk, FrameWriter } from "./frames.ts";
import type { Meter } from "./meter.ts";
import type { OutFrame } from "./outbox.ts";
import { SendOrder, SendsUnderWay } from "./sends.ts";
import type { SendUnderWay } from "./sends.ts";
import type { Live } from "./state.ts";
import type { Waiting } from "./waiting.ts";

interface SendParts {
  readonly clock: Clock;
  readonly meter: Meter;
}

export class SendWaiting implements Waiting, OutFrame, SendUnderWay {
  operation: Operation | undefined = undefined;
  shard = 0;
  untilMs = 0;
  older: SendUnderWay | undefined = undefined;
  newer: SendUnderWay | undefined = undefined;
  #sent: Sent | undefined = undefined;
  readonly #parts: SendParts;
  readonly #beganMs: number;
  readonly #connection: Connection;
  readonly #live: Live;
  readonly #requestId: number;
  readonly conversationId: string;
  readonly clientId: Buffer;
  readonly place: number;
  readonly #span: Span | undefined;

  constructor(
    parts: SendParts,
    connection: Connection,
    live: Live,
    requestId: number,
    conversationId: string,
    clientId: Buffer,
    place: number,
    span: Span | undefined,
  ) {
    this.#parts = parts;
    this.#beganMs = parts.meter.sending();
    this.#connection = connection;
    this.#live = live;
    this.#requestId = requestId;
    this.conversationId = conversationId;
    this.clientId = clientId;
    this.place = place;
    this.#span = span;
  }

  /** It goes on to delivery. */
  begin(): this {
    this.#live.underWay ??= new SendsUnderWay();
    this.#live.underWay.begin(this);
    return this;
  }

  settled(outcome: Outcome["outcome"]): void {
    if (outcome.case !== "sent") return this.failed(Code.Internal, "internal error", 0);
    this.#sent = outcome.value;
    this.#live.underWay?.end(this);
    this.#parts.meter.sent(this.#beganMs);
    if (this.#span !== undefined) endSent(this.#span, outcome.value);
    this.#connection.answered(this);
  }

  get bytes(): number {
    return this.conversationId.length + 32;
  }

  put(writer: FrameWriter): void {
    const sent = this.#sent;
    if (sent === undefined) return;
    const { seq, timeMs, duplicate } = sent;
    writer.putSent(this.#requestId, this.conversationId, seq, timeMs, duplicate);
  }

  chunk(writer: FrameWriter): Chunk {
    this.put(writer);
    return writer.take();
  }

  failed(code: number, message: string, afterMs: number): void {
    this.#live.underWay?.end(this);
    this.#parts.meter.sendFailed();
    this.#span?.end(message);
    if (afterMs > 0) {
      this.#live.order ??= new SendOrder();
      const nowMs = this.#parts.clock.monotonic();
      this.#live.order.refused(this.conversationId, this.clientId, this.place, nowMs);
    }
    this.#connection.failed(this.#requestId, code, message, afterMs);
  }
}

/** A message that is followed was kept. */
export function endSent(span: Span, { seq, duplicate }: Sent): void {
  span.set({ "parley.seq": seq });
  if (duplicate) span.note("sent before");
  span.end();
}

export class MoveWaiting implements Waiting, OutFrame {
  operation: Operation | undefined = undefined;
  shard = 0;
  untilMs = 0;
  #deliveredSeq = 0;
  #readSeq = 0;
  readonly #connections: Connections;
  readonly #connection: Connection;
  readonly #requestId: number;
  readonly #conversationId: string;

  constructor(
    connections: Connections,
    connection: Connection,
    requestId: number,
    conversationId: string,
  ) {
    this.#connections = connections;
    this.#connection = connection;
    this.#requestId = requestId;
    this.#conversationId = conversationId;
  }

  settled(outcome: Outcome["outcome"]): void {
    if (outcome.case !== "moved") return this.failed(Code.Internal, "internal error", 0);
    const { deliveredSeq, readSeq } = outcome.value;
    const { userId } = this.#connection;
    for (const other of this.#connections.ofUser(userId))
      other.acked(this.#conversationId, deliveredSeq);
    this.#deliveredSeq = deliveredSeq;
    this.#readSeq = readSeq;
    this.#connection.answered(this);
  }

  get bytes(): number {
    return this.#conversationId.length + this.#connection.userId.length + 32;
  }

  put(writer: FrameWriter): void {
    const { userId } = this.#connection;
    writer.putMoved(
      this.#requestId,
      this.#conversationId,
      userId,
      this.#deliveredSeq,
      this.#readSeq,
    );
  }

  chunk(writer: FrameWriter): Chunk {
    this.put(writer);
    return writer.take();
  }

  failed(code: number, message: string, afterMs: number): void {
    this.#connection.failed(this.#requestId, code, message, afterMs);
  }
}
