/** Brings inputs to the edge over real sockets, and says how each was answered. */
import { Agent, request } from "node:http";
import { connect } from "node:net";
import { fromBinary, toBinary, create } from "@bufbuild/protobuf";
import { WebSocket } from "ws";
import { ClientBatchSchema, ServerBatchSchema } from "../../proto/gen/parley/v1/frame_pb.ts";
import { helloBatch } from "./corpus.ts";
import type { HttpInput } from "./inputs.ts";

/** What is wrong with an answer; undefined: nothing. */
export type Finding = string | undefined;

const internal = 13;
const unknown = 2;
const keptMax = 4_000;

/** Statuses of 500 and above that say what the client did, or that the service is full. */
const fair5xx = new Set([501, 503, 504, 505]);

/** Of an answer over HTTP, as text. */
export function judged(status: number, text: string): Finding {
  if (status >= 500 && !fair5xx.has(status)) return `status ${status}: ${text.slice(0, 300)}`;
  // gRPC has it so: a message or an envelope that cannot be read is INTERNAL, and Connect has it so of the latter.
  if (/grpc-message: ?parse(%20| )binary|know(%20| )how(%20| )to(%20| )decompress/.test(text))
    return undefined;
  const code = /"code":\s*"(internal|unknown|data_loss)"|grpc-status:\s*(13|2|15)\b/i.exec(text);
  return code === null ? undefined : `${code[0]}: ${text.slice(0, 300)}`;
}

/** All bytes, then the end: whatever they were, an answer or none, and the socket's end from the other side. */
export function carryRaw(url: URL, bytes: Buffer): Promise<Finding> {
  return new Promise((resolve) => {
    const socket = connect({ host: url.hostname, port: Number(url.port), allowHalfOpen: true });
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      if (text.length < keptMax) text += chunk.toString("latin1");
    });
    socket.on("error", () => undefined);
    socket.on("end", () => socket.destroy());
    socket.on("close", () => {
      const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0);
      resolve(status === 101 ? undefined : judged(status, text));
    });
    socket.end(bytes);
  });
}

export class HttpCarrier {
  readonly #url: URL;
  readonly #agent = new Agent({ keepAlive: true });

  constructor(url: URL) {
    this.#url = url;
  }

  carry({ method, path, headers, body, streams }: HttpInput): Promise<Finding> {
    return new Promise((resolve) => {
      const { hostname, port } = this.#url;
      const sent = { ...headers, "content-length": String(body.length) };
      const call = request({ hostname, port, method, path, headers: sent, agent: this.#agent });
      // A socket that is closed under a request is an answer: the bytes may have been no HTTP to the other side.
      call.on("error", () => resolve(undefined));
      call.on("response", (response) => {
        let text = "";
        const done = (): void =>
          resolve(judged(response.statusCode ?? 0, text + trailersOf(response.headers)));
        response.on("data", (chunk: Buffer) => {
          if (text.length < keptMax) text += chunk.toString("latin1");
          if (streams && response.statusCode === 200) response.destroy();
        });
        response.on("end", done);
        response.on("close", done);
        response.on("error", done);
      });
      call.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** gRPC-Web may say all in its headers. */
const trailersOf = (headers: NodeJS.Dict<string | string[]>): string => {
  const status = headers["grpc-status"];
  return status === undefined
    ? ""
    : ` grpc-status: ${String(status)} ${String(headers["grpc-message"])}`;
};

const markId = 4_000_000_000;

/** A device on a WebSocket; a new one whenever it was sent away. */
export class SocketCarrier {
  readonly #url: URL;
  readonly #hello: Buffer;
  #socket: WebSocket | undefined;
  #marks = 0;
  #answered: (finding: Finding, id: number) => void = () => undefined;

  constructor(url: URL, token: string, deviceId: string) {
    this.#url = url;
    this.#hello = helloBatch(token, deviceId);
  }

  /** Resolves once what follows the message is answered, or the socket is closed for a reason. */
  async carry(bytes: Buffer): Promise<Finding> {
    const open = this.#socket?.readyState === WebSocket.OPEN;
    const failed = open ? undefined : await this.#open();
    if (failed !== undefined) return failed;
    const socket = this.#socket;
    const mark = markId + (this.#marks++ % 1_000_000);
    return new Promise((resolve) => {
      let found: Finding;
      this.#answered = (finding, id) => {
        found ??= finding;
        if (id === mark || id < 0) resolve(found);
      };
      const frame = { case: "setTyping", value: { conversationId: "d:fuzz1:peer" } } as const;
      const frames = [{ requestId: mark, frame }];
      socket?.send(bytes);
      socket?.send(toBinary(ClientBatchSchema, create(ClientBatchSchema, { frames })));
    });
  }

  close(): void {
    this.#socket?.terminate();
  }

  #open(): Promise<Finding> {
    const socket = new WebSocket(`ws://${this.#url.host}/ws`, "parley.v1", { maxPayload: 1 << 26 });
    this.#socket = socket;
    return new Promise((resolve) => {
      this.#answered = (finding, id) => {
        if (finding !== undefined || id === 1 || id < 0)
          resolve(id < 0 ? (finding ?? "closed before its Welcome") : finding);
      };
      socket.on("open", () => socket.send(this.#hello));
      socket.on("error", () => undefined);
      socket.on("close", (code) => {
        const wrong =
          code === 1_006 || code === 1_011 ? `the socket was closed with ${code}` : undefined;
        if (this.#socket === socket) this.#answered(wrong, -1);
      });
      socket.on("message", (data: Buffer) => this.#received(data));
    });
  }

  #received(data: Buffer): void {
    for (const { requestId, frame } of fromBinary(ServerBatchSchema, new Uint8Array(data)).frames) {
      const bad = frame.case === "failure" && [internal, unknown].includes(frame.value.code);
      this.#answered(
        bad ? `a Failure: ${frame.value.code} ${frame.value.message}` : undefined,
        requestId,
      );
    }
  }
}
