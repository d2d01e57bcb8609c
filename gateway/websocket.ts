/** The WebSocket at /ws over the library ws: upgrades, and a Connection for each socket. It must not know what frames say. */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocket, WebSocketServer } from "ws";
import type { RawData, Server } from "ws";
import { CloseReason } from "../proto/gen/parley/v1/chat_pb.ts";
import { Connection } from "./connection.ts";
import type { Shared } from "./state.ts";
import type { Connections } from "./connections.ts";

export const subprotocol = "parley.v1";

const retryAfterSeconds = 2;
const bearer = /^Bearer +(\S+) *$/i;

/** Close codes that ws chooses by itself where a client breaks the WebSocket protocol or its limit. */
const breaches: ReadonlyMap<number, string> = new Map([
  [1002, "this is not the WebSocket protocol"],
  [1007, "a text message that is no text"],
  [1008, "too many pieces of a message"],
  [1009, "a message over the limit: the Welcome says how large it may be"],
]);

/** A socket that knows its connection, so that handlers are shared by all. */
class ParleySocket extends WebSocket {
  connection: Connection | undefined = undefined;

  /** What ws closes by itself is a breach of the protocol, too. */
  override close(code?: number, data?: string | Buffer): void {
    const breach = code === undefined ? undefined : breaches.get(code);
    const open = this.readyState === WebSocket.OPEN;
    if (!open || breach === undefined || this.connection === undefined) super.close(code, data);
    else this.connection.end(CloseReason.PROTOCOL, breach, 0);
  }
}

function onMessage(this: WebSocket, data: RawData, isBinary: boolean): void {
  if (this instanceof ParleySocket && Buffer.isBuffer(data)) {
    this.connection?.receive(data, isBinary);
  }
}

function onPing(this: WebSocket, data: Buffer): void {
  if (this instanceof ParleySocket && this.connection?.pinged(data.length) === true)
    this.pong(data);
}

function onClose(this: WebSocket): void {
  if (this instanceof ParleySocket) this.connection?.closed();
}

/** ws closes the socket after it. */
function onError(): void {}

/** The token of an Authorization header; empty where there is none. */
function bearerOf({ headers }: IncomingMessage): string {
  const [, token = ""] = bearer.exec(headers.authorization ?? "") ?? [];
  // A copy: the match would keep the whole header in memory.
  return Buffer.from(token, "latin1").toString("latin1");
}

function offersProtocol({ headers }: IncomingMessage): boolean {
  const offered = headers["sec-websocket-protocol"] ?? "";
  return offered.split(",").some((one) => one.trim() === subprotocol);
}

function refuse(socket: Duplex, status: string, message: string, headers: string[] = []): void {
  const body = `${JSON.stringify({ message })}\n`;
  const lines = [
    `HTTP/1.1 ${status}`,
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(body)}`,
    "connection: close",
    ...headers,
  ];
  socket.on("error", onError);
  socket.once("finish", () => socket.destroy());
  socket.end([...lines, "", body].join("\r\n"));
}

export class Sockets {
  readonly #shared: Shared;
  readonly #connections: Connections;
  readonly #server: Server<typeof ParleySocket>;

  constructor(shared: Shared, connections: Connections) {
    this.#shared = shared;
    this.#connections = connections;
    this.#server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      // The connection decides: ws would cut one that pings too fast, without a word.
      autoPong: false,
      perMessageDeflate: false,
      maxPayload: shared.config.maxFrameBytes,
      handleProtocols: () => subprotocol,
      WebSocket: ParleySocket,
    });
  }

  /** For an HTTP server's event 'upgrade', once path and origin are checked. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer, address: string): void {
    const later = [`retry-after: ${retryAfterSeconds}`];
    if (this.#connections.closed) {
      return refuse(socket, "503 Service Unavailable", "this gateway is going away", later);
    }
    if (this.#connections.full) {
      const message = "this gateway has too many connections";
      return refuse(socket, "503 Service Unavailable", message, later);
    }
    if (this.#connections.crowded(address)) {
      const message = `too many connections from ${address} that have not said who they are`;
      return refuse(socket, "429 Too Many Requests", message, later);
    }
    if (!offersProtocol(request)) {
      const message = `ask for the subprotocol ${subprotocol} (Sec-WebSocket-Protocol)`;
      return refuse(socket, "400 Bad Request", message);
    }
    this.#server.handleUpgrade(request, socket, head, (opened) =>
      this.#adopt(opened, request, address),
    );
  }

  #adopt(socket: ParleySocket, request: IncomingMessage, address: string): void {
    const token = bearerOf(request);
    const number = this.#connections.next();
    const connection = new Connection(this.#shared, socket, number, token, address);
    socket.connection = connection;
    socket.on("message", onMessage);
    socket.on("ping", onPing);
    socket.on("close", onClose);
    socket.on("error", onError);
    this.#connections.add(connection);
  }

  close(): void {
    this.#server.close();
  }
}
