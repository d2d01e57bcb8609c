/** The edge's one HTTP port: WebSocket, Connect, media, the web page and health, each handed to whoever knows it. */
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { setMaxListeners } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { Code, ConnectError, cors } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Cancel, Clock } from "../mesh/clock.ts";
import { notAllowed, retryAfterHeader, unavailable } from "../mesh/errors.ts";
import { readiness } from "../mesh/health-http.ts";
import { ChatService } from "../proto/gen/parley/v1/chat_pb.ts";
import { createAdapter } from "./adapter.ts";
import type { Adapter } from "./adapter.ts";
import { refusal, sendError } from "./answer.ts";
import { chatLimits, chatRoutes } from "./connect.ts";
import type { ChatLimits, ChatRoutes } from "./connect.ts";
import type { MediaHandler } from "./media.ts";
import { createOriginPolicy } from "./origin.ts";
import type { PageHandler } from "./page.ts";
import type { Authenticator, Calls } from "./ports.ts";

export interface EdgeConfig {
  /** Pages of these origins may call, besides those of the same host; "*": of all. */
  readonly origins: readonly string[];
  /** Of one request to ChatService, in bytes, as sent and as unpacked. */
  readonly requestMaxBytes: number;
  /** Sockets of all kinds. */
  readonly socketsMax: number;
  /** How long a request's head may take. */
  readonly headersMs: number;
  /** The remote address is what the nearest proxy says (X-Forwarded-For), not the socket's. */
  readonly trustForwardedFor: boolean;
  readonly chat: ChatLimits;
}

export const edgeConfig: EdgeConfig = {
  origins: [],
  requestMaxBytes: 1_048_576,
  socketsMax: 60_000,
  headersMs: 10_000,
  trustForwardedFor: false,
  chat: chatLimits,
};

/** Takes a WebSocket's request over, the socket with it; `address` is the client's. */
export type Upgrade = (
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  address: string,
) => void;

export interface EdgeParts {
  readonly calls: Calls;
  readonly auth: Authenticator;
  readonly upgrade: Upgrade;
  readonly media: MediaHandler;
  /** Undefined where no page is built. */
  readonly page?: PageHandler | undefined;
  /** Why the process cannot serve now, a sentence each; empty: ready. */
  readonly health: () => string[];
  /** What will be such a reason unless somebody does something, a sentence each. */
  readonly warnings?: () => string[];
  readonly clock: Clock;
  readonly log: Logger;
  readonly config?: EdgeConfig;
}

export interface EdgeServer {
  /** Serves a connection that was accepted elsewhere, besides those that it accepts where it listens. */
  serve(socket: Duplex): void;
  /** Resolves with the port that it listens on. */
  listen(host: string, port: number): Promise<number>;
  /**
   * Takes nothing new, ends streams and long polls at once, lets other calls finish for `graceMs`, then cuts what is left, WebSockets
   * included.
   */
  close(graceMs: number): Promise<void>;
}

const requestMs = 120_000;
/** A socket on which nothing moves for so long is dropped; streams and long polls are heard of more often. */
const silentMs = 120_000;
/** Longer than the idle time of common proxies, so that it is they who close. */
const keepAliveMs = 75_000;
const requestsPerSocketMax = 10_000;
/** What a client may say that it waits for one call. */
const timeoutMsMax = 600_000;
/** How long the rest of a refused upload is read and thrown away, so that its sender sees the answer. */
const lingerMs = 1_000;
/** Between asking calls to end and cutting their sockets. */
const partingMs = 250;

const chatPath = `/${ChatService.typeName}/`;
const methodNames = ChatService.methods.map(({ name }) => name).join(", ");
const callTypes =
  /^application\/(json|proto|connect\+(json|proto)|grpc-web(-text)?(\+\w+)?)\s*(;|$)/i;
const usage =
  "there is nothing here; Parley answers at /ws (WebSocket), /parley.v1.ChatService/METHOD (POST), /media, /healthz and /readyz";

const noPage = "no web page is built here: npm run build makes one for the next start";

const corsHeaders = {
  "access-control-allow-methods": "GET, HEAD, POST",
  "access-control-allow-headers": [
    ...cors.allowedHeaders,
    "Authorization",
    "Parley-Device",
    "If-None-Match",
    "If-Range",
    "Range",
  ].join(", "),
  "access-control-max-age": "7200",
};
const exposedHeaders = [
  ...cors.exposedHeaders,
  retryAfterHeader,
  "Content-Range",
  "Accept-Ranges",
  "ETag",
].join(", ");

export function createEdgeServer(parts: EdgeParts): EdgeServer {
  return new Edge(parts);
}

class Edge implements EdgeServer {
  readonly #parts: EdgeParts;
  readonly #config: EdgeConfig;
  readonly #origins: ReturnType<typeof createOriginPolicy>;
  readonly #routes: ChatRoutes;
  readonly #connect: Adapter;
  readonly #parting = new AbortController();
  readonly #sockets = new Set<Duplex>();
  /** Of a socket that a request was answered on before it had come whole: ends the wait for the rest. */
  readonly #lingering = new Map<Duplex, Cancel>();
  readonly #server: Server;
  #closing: Promise<void> | undefined;

  constructor(parts: EdgeParts) {
    const { calls, auth, clock, log, config = edgeConfig } = parts;
    // Every call under way listens.
    setMaxListeners(0, this.#parting.signal);
    this.#parts = parts;
    this.#config = config;
    this.#origins = createOriginPolicy(config.origins);
    this.#routes = chatRoutes(calls, auth, { clock, log, limits: config.chat });
    const options = {
      readMaxBytes: config.requestMaxBytes,
      maxTimeoutMs: timeoutMsMax,
      shutdownSignal: this.#parting.signal,
      grpc: false,
    };
    this.#connect = createAdapter(ChatService, this.#routes.service, options, log);
    this.#server = this.#newServer();
  }

  #newServer(): Server {
    const server = createServer({
      headersTimeout: this.#config.headersMs,
      requestTimeout: requestMs,
      keepAliveTimeout: keepAliveMs,
      connectionsCheckingInterval: this.#config.headersMs / 2,
      maxHeaderSize: 16_384,
    });
    server.maxRequestsPerSocket = requestsPerSocketMax;
    server.maxConnections = this.#config.socketsMax;
    server.timeout = silentMs;
    server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => {
        this.#sockets.delete(socket);
        this.#lingering.get(socket)?.();
        this.#lingering.delete(socket);
      });
    });
    server.on("request", (request, response) => this.#answer(request, response));
    server.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
    return server;
  }

  serve(socket: Duplex): void {
    this.#server.emit("connection", socket);
  }

  listen(host: string, port: number): Promise<number> {
    const server = this.#server;
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host, port }, () => {
        server.off("error", reject);
        server.on("error", (error) =>
          this.#parts.log.error({ err: error }, "the edge's socket failed"),
        );
        resolve((server.address() as AddressInfo).port);
      });
    });
  }

  close(graceMs: number): Promise<void> {
    this.#closing ??= new Promise((resolve) => {
      const { clock } = this.#parts;
      const cancels = [
        clock.after(graceMs, () => this.#parting.abort(unavailable("the gateway is going away"))),
        clock.after(graceMs + partingMs, () => {
          for (const socket of this.#sockets) socket.destroy();
        }),
      ];
      this.#server.close(() => {
        for (const cancel of cancels) cancel();
        resolve();
      });
      this.#routes.endWaits();
      this.#server.closeIdleConnections();
    });
    return this.#closing;
  }

  #remote(address: string | undefined, forwardedFor: string | string[] | undefined): string {
    if (this.#config.trustForwardedFor && forwardedFor !== undefined) {
      const nearest = String(forwardedFor).split(",").pop()?.trim();
      if (nearest !== undefined && nearest !== "") return nearest;
    }
    return address ?? "unknown";
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    response.once("finish", () => this.#finished(request, socket));
    if (this.#closing !== undefined) response.setHeader("connection", "close");
    response.setHeader("x-content-type-options", "nosniff");
    response.setHeader("x-frame-options", "DENY");
    response.setHeader("referrer-policy", "no-referrer");
    response.setHeader("cache-control", "no-store");
    try {
      this.#route(request, response);
    } catch (error) {
      // The Connect adapter throws where there is no usable Host header.
      const known = error instanceof ConnectError && error.code !== Code.Internal;
      sendError(
        response,
        known ? error : refusal(400, "the request line or the header Host is wrong"),
      );
    }
  }

  #route(request: IncomingMessage, response: ServerResponse): void {
    const [path = ""] = (request.url ?? "").split("?", 1);
    if (path === "/healthz" || path === "/readyz") return this.#health(path, response);
    this.#checkOrigin(request, response);
    if (request.method === "OPTIONS") {
      response.writeHead(204, { allow: "GET, HEAD, POST, OPTIONS" }).end();
      return;
    }
    if (path.startsWith(chatPath)) return this.#call(path, request, response);
    if (path === "/media" || path.startsWith("/media/")) {
      void this.#parts.media(request, response);
      return;
    }
    if (path === "/ws") {
      response.setHeader("upgrade", "websocket");
      throw refusal(
        426,
        "this is a WebSocket: connect with the subprotocol parley.v1",
        Code.Unimplemented,
      );
    }
    if (this.#parts.page?.(path, request, response)) return;
    throw refusal(404, path === "/" ? `${noPage}; ${usage}` : usage, Code.NotFound);
  }

  /** Whoever may call may read the answer, too; others learn nothing. */
  #checkOrigin(request: IncomingMessage, response: ServerResponse): void {
    const { origin, host } = request.headers;
    response.setHeader("vary", "Origin");
    if (origin === undefined) return;
    if (!this.#origins.allows(origin, host)) throw notAllowed(`pages of ${origin} may not call`);
    response.setHeader("access-control-allow-origin", origin);
    response.setHeader("access-control-expose-headers", exposedHeaders);
    if (request.method === "OPTIONS")
      for (const [name, value] of Object.entries(corsHeaders)) response.setHeader(name, value);
  }

  #health(path: string, response: ServerResponse): void {
    if (path === "/healthz") {
      response.writeHead(200, { "content-type": "text/plain; charset=utf-8" }).end("ok\n");
      return;
    }
    const { health, warnings = () => [] } = this.#parts;
    const reasons = this.#closing === undefined ? health() : [...health(), "it is going away"];
    const { status, type, text } = readiness(reasons, warnings());
    response.writeHead(status, { "content-type": type }).end(text);
  }

  #call(path: string, request: IncomingMessage, response: ServerResponse): void {
    const type = request.headers["content-type"] ?? "";
    if (request.method !== "POST")
      throw refusal(
        405,
        "call methods with POST, and with a body: {} at least",
        Code.Unimplemented,
      );
    if (!callTypes.test(type))
      throw refusal(415, `Content-Type is "${type}"; send application/json or application/proto`);
    // Said here, since it is final: the adapter's own error for it reads as if trying again made sense.
    const max = this.#config.requestMaxBytes;
    if (
      Number(request.headers["content-length"] ?? 0) > max &&
      /^application\/(json|proto)/i.test(type)
    )
      throw refusal(413, `the request is too large; at most ${max} bytes are taken`);
    const { socket } = request;
    const address = this.#remote(socket.remoteAddress, request.headers["x-forwarded-for"]);
    const remote = { address, hangUp: (): void => void socket.destroy() };
    if (!this.#connect(path, request, response, remote))
      throw refusal(404, `ChatService has the methods ${methodNames}`, Code.Unimplemented);
  }

  /** By then the request may have lost its socket. Of the requests of a socket only the last one may be incomplete. */
  #finished(request: IncomingMessage, socket: Socket): void {
    this.#lingering.get(socket)?.();
    this.#lingering.delete(socket);
    if (!request.complete && !socket.destroyed) {
      request.resume();
      const cancel = this.#parts.clock.after(lingerMs, () => {
        this.#lingering.delete(socket);
        if (!request.complete) socket.destroy();
      });
      this.#lingering.set(socket, cancel);
    }
    if (this.#closing !== undefined)
      this.#parts.clock.afterTurn(() => this.#server.closeIdleConnections());
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // A socket without a listener for its errors would crash the process.
    socket.on("error", () => undefined);
    const { origin, host, upgrade } = request.headers;
    const [path] = (request.url ?? "").split("?", 1);
    if (upgrade?.toLowerCase() !== "websocket")
      return turnAway(socket, "400 Bad Request", "only an upgrade to WebSocket is possible");
    if (path !== "/ws") return turnAway(socket, "404 Not Found", "the WebSocket is at /ws");
    if (!this.#origins.allows(origin, host))
      return turnAway(socket, "403 Forbidden", `pages of ${origin ?? ""} may not connect`);
    if (this.#closing !== undefined)
      return turnAway(socket, "503 Service Unavailable", "the gateway is going away");
    const { remoteAddress } = request.socket;
    const address = this.#remote(remoteAddress, request.headers["x-forwarded-for"]);
    this.#parts.upgrade(request, socket, head, address);
  }
}

/** Answers a request for an upgrade that is not granted; no response object comes with one. */
function turnAway(socket: Duplex, status: string, message: string): void {
  const body = JSON.stringify({ message }) + "\n";
  const headers = [
    `HTTP/1.1 ${status}`,
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(body)}`,
    "connection: close",
  ];
  socket.once("finish", () => socket.destroy());
  socket.end([...headers, "", body].join("\r\n"));
}
