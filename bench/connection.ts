/** A device of a benchmark's user: says Hello, answers heartbeats, makes the rare calls, and hands the hot frames to its load. */
import { setTimeout as later, clearTimeout as cancel } from "node:timers";
import { addExample, type Faults } from "./check.ts";
import { bytesField, clientField, FrameWriter, serverField, varintField } from "./codec.ts";
import {
  bytesIn,
  fieldsOf,
  FrameReader,
  numberIn,
  syncAnswer,
  type ServerFrames,
} from "./frames.ts";
import type { Target } from "./job.ts";
import { WebSocketClient } from "./socket.ts";
import { signToken } from "./token.ts";
import type { Flushed, Turn } from "./turn.ts";

/** What a load does with its connections' frames. */
export interface Load {
  sent(from: ParleyConnection, requestId: number, seq: number, duplicate: boolean): void;
  record(
    to: ParleyConnection,
    bytes: Buffer,
    seq: number,
    textStart: number,
    textEnd: number,
  ): void;
  cursor(to: ParleyConnection, deliveredSeq: number): void;
  /** A call with this request id was refused. */
  refused(from: ParleyConnection, requestId: number): void;
  /** Once a turn, where the connection was touched: writes what there is to say. */
  fill(from: ParleyConnection, writer: FrameWriter): void;
}

/** What all connections of one job share. */
export interface Shared {
  readonly target: Target;
  readonly turn: Turn;
  readonly writer: FrameWriter;
  readonly reader: FrameReader;
  readonly faults: Faults;
}

export const newShared = (target: Target, turn: Turn, faults: Faults): Shared => ({
  target,
  turn,
  writer: new FrameWriter(),
  reader: new FrameReader(),
  faults,
});

const answerMs = 30_000;
/** So many failures, and the server refuses to be measured. */
const failuresMax = 1000;

interface Answer {
  readonly promise: Promise<Buffer>;
  resolve(body: Buffer): void;
  reject(error: Error): void;
}

/** An answer that is waited for, but not for ever. */
function awaited(what: string): Answer {
  let resolve: (body: Buffer) => void = () => undefined;
  let reject: (error: Error) => void = () => undefined;
  const promise = new Promise<Buffer>((yes, no) => {
    const timer = later(() => no(new Error(`${what}: nothing within ${answerMs} ms`)), answerMs);
    resolve = (body) => {
      cancel(timer);
      yes(body);
    };
    reject = (error) => {
      cancel(timer);
      no(error);
    };
  });
  return { promise, resolve, reject };
}

/** Where sends' and cursors' request ids begin; below are those of calls. */
export const loadRequestIds = 1000;

export class ParleyConnection implements ServerFrames, Flushed {
  readonly number: number;
  readonly userId: string;
  dirty = false;
  /** A load that is not running yet takes nothing. */
  load: Load | undefined;
  readonly #shared: Shared;
  readonly #socket: WebSocketClient;
  readonly #calls = new Map<number, Answer>();
  #nextCall = 1;
  readonly #attached: Answer;
  #heartbeats = 0;
  #open = true;

  private constructor(shared: Shared, number: number, userId: string) {
    this.#shared = shared;
    this.number = number;
    this.userId = userId;
    this.#attached = awaited(`${userId}'s first sync`);
    const { target } = shared;
    const { others = [] } = target;
    const { host, port } = [target, ...others][number % (others.length + 1)] ?? target;
    this.#socket = new WebSocketClient(
      { host, port, path: "/ws", subprotocol: "parley.v1" },
      {
        opened: () => this.#hello(),
        message: (bytes, start, end) => shared.reader.batch(bytes, start, end, this),
        lost: (why) => this.#lost(why),
      },
    );
  }

  /** Resolves once the server has welcomed the device and synced it. */
  static async open(shared: Shared, number: number, userId: string): Promise<ParleyConnection> {
    const connection = new ParleyConnection(shared, number, userId);
    await connection.#attached.promise;
    return connection;
  }

  /** A call whose answer is rarely wanted: answers with its body. */
  call(field: number, body: Uint8Array): Promise<Buffer> {
    const requestId = this.#nextCall++;
    const answer = awaited(`the answer to ${this.userId}'s frame ${field}`);
    this.#calls.set(requestId, answer);
    this.#shared.writer.frame(requestId, field, body);
    this.#write();
    return answer.promise;
  }

  /** The connection has something to say at the end of this turn. */
  touch(): void {
    this.#shared.turn.touch(this);
  }

  flush(): void {
    if (!this.#open) return;
    const { writer } = this.#shared;
    if (this.#heartbeats > 0) {
      this.#heartbeats = 0;
      writer.frame(this.#nextCall++, clientField.heartbeatReply, Buffer.alloc(0));
    }
    this.load?.fill(this, writer);
    this.#write();
  }

  close(): void {
    this.#open = false;
    this.#socket.close();
  }

  sent(requestId: number, seq: number, duplicate: boolean): void {
    this.load?.sent(this, requestId, seq, duplicate);
  }

  record(bytes: Buffer, seq: number, textStart: number, textEnd: number): void {
    this.load?.record(this, bytes, seq, textStart, textEnd);
  }

  cursor(deliveredSeq: number): void {
    this.load?.cursor(this, deliveredSeq);
  }

  resync(): void {
    addExample(this.#shared.faults, `${this.userId} was told to sync again`);
  }

  heartbeat(): void {
    this.#heartbeats++;
    this.touch();
  }

  goodbye(reason: number): void {
    addExample(this.#shared.faults, `${this.userId} got a Goodbye with reason ${reason}`);
  }

  other(requestId: number, field: number, bytes: Buffer, start: number, end: number): void {
    const body = Buffer.from(bytes.subarray(start, end));
    const call = this.#calls.get(requestId);
    if (field === serverField.sync && requestId === 0) {
      if (syncAnswer(body).complete) this.#attached.resolve(body);
    } else if (field === serverField.failure) {
      const fields = fieldsOf(body);
      const text = `failure ${numberIn(fields, 1)}: ${bytesIn(fields, 2).toString()}`;
      if (call !== undefined) call.reject(new Error(`${this.userId}: ${text}`));
      else this.#refused(requestId, text);
    } else call?.resolve(body);
    this.#calls.delete(requestId);
  }

  #hello(): void {
    const nowMs = performance.timeOrigin + performance.now();
    const token = bytesField(1, signToken(this.#shared.target.secret, this.userId, nowMs));
    const device = bytesField(2, `bench-${this.number}`);
    this.call(clientField.hello, Buffer.concat([token, device, varintField(4, 1)])).catch(
      this.#attached.reject,
    );
  }

  #refused(requestId: number, text: string): void {
    const { faults } = this.#shared;
    faults.failed++;
    addExample(faults, `${this.userId}: ${text}`);
    if (faults.failed < failuresMax) this.load?.refused(this, requestId);
  }

  #write(): void {
    const message = this.#shared.writer.take();
    if (message !== undefined) this.#socket.write(message);
  }

  #lost(why: string): void {
    this.#open = false;
    const error = new Error(`${this.userId} lost its connection: ${why}`);
    this.#shared.faults.failed++;
    addExample(this.#shared.faults, error.message);
    this.#attached.reject(error);
    for (const call of this.#calls.values()) call.reject(error);
    this.#calls.clear();
  }
}
