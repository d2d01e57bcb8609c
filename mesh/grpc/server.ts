/** Serves what the mesh's handlers implement to gRPC clients: any service, no generated gRPC code. */
import { fromBinary } from "@bufbuild/protobuf";
import type { DescMessage, DescMethod, Message } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import type { ServerDuplexStream } from "@grpc/grpc-js";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Logger } from "pino";
import { Call, over } from "../call.ts";
import type { Asked, CallSettings } from "../call.ts";
import { systemClock } from "../clock.ts";
import type { Clock } from "../clock.ts";
import { publicError, unavailable } from "../errors.ts";
import { whole } from "../handlers.ts";
import type { Handler, Handlers } from "../handlers.ts";
import { listen, openDoor } from "./door.ts";
import type { Door } from "./door.ts";
import { Incoming } from "./incoming.ts";
import {
  keepaliveTimeoutMs,
  keepaliveMs,
  maxMessageBytes as defaultMaxMessageBytes,
} from "./limits.ts";
import { toHeaders, toMetadata, toStatus } from "./metadata.ts";
import { encode, Outgoing } from "./outgoing.ts";

export interface GrpcServerOptions {
  host: string;
  /** 0: one that is free. */
  port: number;
  /** What is served: handlers of a mesh, or one's own. Later additions are served, too. */
  handlers: Handlers;
  log: Logger;
  /** For deadlines and the grace of closing. */
  clock?: Clock;
  /** The largest message taken or sent. */
  maxMessageBytes?: number;
  /** Calls under way at once on one connection. */
  maxCallsPerConnection?: number;
  /** Who may come in; everybody, unencrypted, if not given. */
  credentials?: Door;
}

export interface GrpcServer {
  readonly port: number;
  /**
   * Takes no new connections and streams, and ends streams with UNAVAILABLE at once. Unary calls are served until none is under way, and
   * ended with UNAVAILABLE after `graceMs`. Answers when all connections are closed, a turn after `graceMs` at the latest.
   */
  close(graceMs: number): Promise<void>;
}

type Stream = ServerDuplexStream<Buffer, Buffer>;

export async function serveGrpc(options: GrpcServerOptions): Promise<GrpcServer> {
  const { host, port, log, credentials = openDoor } = options;
  const serving = new Serving(options);
  const listener = credentials.open((connection) => serving.take(connection), log);
  const sockets = new Set<Socket>();
  listener.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  const bound = await listen(listener, host, port);
  listener.on("error", (err) => log.error({ err }, "a connection could not be taken"));
  let closed: Promise<void> | undefined;
  async function close(graceMs: number): Promise<void> {
    listener.close();
    await serving.close(graceMs);
    // Those that never came as far as the server.
    for (const socket of sockets) socket.destroy();
  }
  return { port: bound, close: (graceMs) => (closed ??= close(graceMs)) };
}

/** What is under way, and how it ends. */
class Serving {
  readonly server: Server;
  readonly settings: CallSettings;
  readonly maxMessageBytes: number;
  /** Called when no call is under way, while closing. */
  #idle: (() => void) | undefined;
  readonly #connections = new Set<Duplex>();
  /** Called when the last connection is closed, while closing. */
  #empty: (() => void) | undefined;
  readonly #injector: ReturnType<Server["createConnectionInjector"]>;

  constructor({ handlers, log, clock = systemClock, ...options }: GrpcServerOptions) {
    const { maxMessageBytes = defaultMaxMessageBytes, maxCallsPerConnection = 1_000 } = options;
    this.maxMessageBytes = maxMessageBytes;
    this.settings = {
      protocolName: "grpc",
      clock,
      onInternalError: (error, method) =>
        log.error({ err: error, rpc: nameOf(method) }, "a call failed for a reason of ours"),
      calls: new Set(),
    };
    this.server = new Server({
      "grpc.max_receive_message_length": maxMessageBytes,
      "grpc.max_send_message_length": maxMessageBytes,
      "grpc.max_concurrent_streams": maxCallsPerConnection,
      "grpc.keepalive_time_ms": keepaliveMs,
      "grpc.keepalive_timeout_ms": keepaliveTimeoutMs,
      "grpc.enable_channelz": 0,
    });
    this.#injector = this.server.createConnectionInjector(ServerCredentials.createInsecure());
    handlers.each((handler) => register(this, handler));
  }

  take(connection: Duplex): void {
    this.#connections.add(connection);
    connection.once("close", () => {
      this.#connections.delete(connection);
      if (this.#connections.size === 0) this.#empty?.();
    });
    this.#injector.injectConnection(connection);
  }

  /** Throws where it is closing, and the call might be under way for ever. */
  begin(handler: Handler, asked: Asked): Call {
    if (this.#idle !== undefined && handler.method.methodKind !== "unary") throw closing();
    const call = new Call(handler, asked, this.settings);
    call.onEnd(() => this.#ended());
    return call;
  }

  #ended(): void {
    if (this.settings.calls.size === 0) this.#idle?.();
  }

  /**
   * Connections are told to end (GOAWAY) only when no call is under way: the library's next sign of life on one that was told, from either
   * side, would end the calls on it. Whether they are closed is seen at themselves: from Node 24 on, the library's word of it comes
   * before the last answers have gone out.
   */
  async close(graceMs: number): Promise<void> {
    const { calls, clock } = this.settings;
    const idle = new Promise<void>((resolve) => (this.#idle = resolve));
    const endAll = (): void => {
      for (const call of calls) call.end(closing(), closing());
    };
    for (const call of calls) {
      if (call.context.method.methodKind !== "unary") call.end(closing(), closing());
    }
    this.#ended();
    await new Promise<void>((resolve) => {
      const cancel = clock.after(graceMs, () => {
        endAll();
        // The statuses of those go out in this turn.
        clock.afterTurn(() => {
          this.server.forceShutdown();
          resolve();
        });
      });
      void idle.then(() =>
        this.server.tryShutdown(() => {
          this.#empty = () => {
            cancel();
            resolve();
          };
          if (this.#connections.size === 0) this.#empty();
        }),
      );
    });
  }
}

const closing = (): ConnectError => unavailable("this server is closing");

function nameOf({ parent, name }: DescMethod): string {
  return `${parent.typeName}/${name}`;
}

/** All kinds of call look alike on the wire, so that all are served as streams both ways. */
function register(serving: Serving, handler: Handler): void {
  const same = (bytes: Buffer): Buffer => bytes;
  const answer = (stream: Stream): void => serveCall(stream, handler, serving);
  serving.server.register(`/${nameOf(handler.method)}`, answer, same, same, "bidi");
}

function serveCall(stream: Stream, handler: Handler, serving: Serving): void {
  const dueMs = Number(stream.getDeadline());
  const timeoutMs = Number.isFinite(dueMs) ? dueMs - systemClock.now() : undefined;
  const header = toHeaders(stream.metadata);
  try {
    const call = serving.begin(handler, {
      signal: undefined,
      timeoutMs,
      header,
      contextValues: undefined,
    });
    // A call that ended well or was answered is told here, too.
    stream.on("cancelled", () => call.end(over(), over()));
    void answer(stream, handler, call, serving.maxMessageBytes);
  } catch (error) {
    stream.emit("error", toStatus(publicError(error)));
  }
}

/** Never rejects. */
async function answer(
  stream: Stream,
  { method }: Handler,
  call: Call,
  maxMessageBytes: number,
): Promise<void> {
  const toResponse = whole(method.output, false);
  const answers = call.run(
    new Incoming(stream),
    (bytes) => decode(method.input, bytes),
    (response) => encode(method.output, toResponse(response), maxMessageBytes),
  );
  const outgoing = new Outgoing(stream);
  call.onEnd(() => outgoing.release());
  const { context } = call;
  let began = false;
  const begin = (): void => {
    if (!began) stream.sendMetadata(toMetadata(context.responseHeader));
    began = true;
  };
  try {
    for (let next = await answers.next(); next.done !== true; next = await answers.next()) {
      begin();
      if (!outgoing.write(next.value)) await outgoing.drained();
    }
    begin();
    stream.end(toMetadata(context.responseTrailer));
  } catch (error) {
    if (!stream.cancelled) stream.emit("error", toStatus(publicError(error)));
  }
}

function decode(type: DescMessage, bytes: Buffer): Message {
  try {
    return fromBinary(type, bytes);
  } catch (error) {
    throw new ConnectError(
      `not a ${type.typeName}: the bytes cannot be decoded`,
      Code.InvalidArgument,
      undefined,
      undefined,
      error,
    );
  }
}
