/** A client of the WebSocket that does what it is told and nothing else: it sends any bytes, and keeps whatever comes. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { WebSocket } from "ws";
import { ClientBatchSchema, ServerBatchSchema } from "../../proto/gen/parley/v1/frame_pb.ts";
import type {
  ClientFrameSchema,
  Failure,
  HelloSchema,
  ServerFrame,
  Welcome,
} from "../../proto/gen/parley/v1/frame_pb.ts";
import { Inbox } from "./inbox.ts";
import { within } from "./within.ts";

type FrameInit = NonNullable<MessageInitShape<typeof ClientFrameSchema>["frame"]>;
type Frame = ServerFrame["frame"];

export interface Closed {
  readonly code: number;
  readonly reason: string;
}

interface Waiting {
  resolve(frame: Frame): void;
  reject(error: Error): void;
}

const callMs = 15_000;

/** The bytes of a batch. */
export const batchOf = (frames: MessageInitShape<typeof ClientFrameSchema>[]): Uint8Array =>
  toBinary(ClientBatchSchema, create(ClientBatchSchema, { frames }));

export function errorOf({ code, message, retryAfterMs }: Failure): ConnectError {
  const known = Object.values(Code).find((one) => one === code);
  const metadata = { "retry-after-ms": String(retryAfterMs) };
  return new ConnectError(message, typeof known === "number" ? known : Code.Unknown, metadata);
}

export class SocketClient {
  readonly inbox = new Inbox();
  readonly closed: Promise<Closed>;
  /** Failures that answer no call. */
  readonly failures: Failure[] = [];
  /** Whether heartbeats are answered. */
  answersHeartbeats = true;
  /** Called with answers to calls that were not made by `call`. */
  onUnknown: ((requestId: number, frame: Frame) => void) | undefined;
  readonly #socket: WebSocket;
  readonly #calls = new Map<number, Waiting>();
  #lastId = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    this.closed = new Promise((resolve) => {
      socket.on("close", (code, reason) => {
        const closed = { code, reason: reason.toString() };
        const error = new Error(`the socket was closed: ${code} ${closed.reason}`);
        for (const { reject } of this.#calls.values()) reject(error);
        this.#calls.clear();
        this.inbox.tell(error);
        resolve(closed);
      });
    });
    socket.on("error", () => undefined);
    socket.on("message", (data: Buffer) => this.#received(data));
  }

  /** Rejects with the answer's status and text where the upgrade is refused. */
  static open(
    url: string,
    {
      headers = {},
      protocol = "parley.v1",
    }: { headers?: Record<string, string>; protocol?: string } = {},
  ): Promise<SocketClient> {
    const socket = new WebSocket(`${url.replace(/^http/, "ws")}/ws`, protocol, {
      headers,
      maxPayload: 64 * 1_024 * 1_024,
    });
    const client = new SocketClient(socket);
    const opened = new Promise<SocketClient>((resolve, reject) => {
      socket.once("open", () => resolve(client));
      socket.once("error", reject);
      socket.once("unexpected-response", (_, response) => {
        let text = "";
        response.on("data", (chunk: Buffer) => (text += chunk.toString()));
        response.on("end", () => reject(new Error(`${response.statusCode ?? 0} ${text}`)));
      });
    });
    return within(callMs, "a WebSocket", opened);
  }

  /** Says who it is, and answers with the Welcome. */
  async hello(hello: MessageInitShape<typeof HelloSchema>): Promise<Welcome> {
    const answer = await this.call({ case: "hello", value: hello });
    if (answer.case !== "welcome") throw unexpected(answer);
    return answer.value;
  }

  /** One frame, and its answer; a Failure is thrown. */
  async call(frame: FrameInit): Promise<Frame> {
    const [answer] = await Promise.all(this.callAll([frame]));
    if (answer === undefined) throw new Error("no answer");
    return answer;
  }

  /** All frames in one batch, and the answer of each. */
  callAll(frames: FrameInit[]): Promise<Frame>[] {
    const numbered = frames.map((frame) => ({ requestId: (this.#lastId += 1), frame }));
    const answers = numbered.map(({ requestId, frame }) =>
      within(
        callMs,
        `the answer to ${String(frame.case)}`,
        new Promise<Frame>((resolve, reject) => this.#calls.set(requestId, { resolve, reject })),
      ),
    );
    this.raw(batchOf(numbered));
    return answers;
  }

  /** Whatever it is, as one binary message, or as a text message where it is a text. */
  raw(data: Uint8Array | string): void {
    this.#socket.send(data, { binary: typeof data !== "string" });
  }

  /** Resolves when the system has taken what was sent. */
  rawTaken(data: Uint8Array): Promise<void> {
    return new Promise((resolve) => this.#socket.send(data, () => resolve()));
  }

  get open(): boolean {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  ping(): void {
    this.#socket.ping();
  }

  /** Stops reading: the server's writes pile up. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  async close(): Promise<void> {
    this.#socket.resume();
    this.#socket.close(1_000);
    await this.closed;
  }

  /** As a device does that loses its network. */
  async cut(): Promise<void> {
    this.#socket.terminate();
    await this.closed;
  }

  #received(data: Buffer): void {
    for (const { requestId, frame } of fromBinary(ServerBatchSchema, new Uint8Array(data)).frames) {
      if (requestId === 0) this.#told(frame);
      else this.#answered(requestId, frame);
    }
    this.inbox.tell();
  }

  #answered(requestId: number, frame: Frame): void {
    const waiting = this.#calls.get(requestId);
    this.#calls.delete(requestId);
    if (waiting === undefined) this.onUnknown?.(requestId, frame);
    else if (frame.case === "failure") waiting.reject(errorOf(frame.value));
    else waiting.resolve(frame);
  }

  #told(frame: Frame): void {
    switch (frame.case) {
      case "sync":
        this.inbox.syncs.push(frame.value);
        return;
      case "pushed":
        this.inbox.pushed.push(frame.value);
        return;
      case "heartbeat":
        this.inbox.heartbeats.push(frame.value);
        if (this.answersHeartbeats)
          this.raw(batchOf([{ requestId: 0, frame: { case: "heartbeatReply", value: {} } }]));
        return;
      case "goodbye":
        this.inbox.goodbye = frame.value;
        return;
      case "failure":
        this.failures.push(frame.value);
        return;
      default:
        throw unexpected(frame);
    }
  }
}

export const unexpected = ({ case: kind }: Frame): Error =>
  new Error(`the server answered with ${String(kind)}`);
