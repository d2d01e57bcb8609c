/** Serves what the mesh's handlers implement to gRPC clients: any service, no generated gRPC code. */
import { fromBinary } from "@bufbuild/protobuf";
import type { DescMessage, DescMethod, Message } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import type { ServerDuplexStream } from "@grpc/grpc-js";
import type { Logger } from "pino";
import { Call, over } from "../call.ts";
import type { CallSettings } from "../call.ts";
import { systemClock } from "../clock.ts";
import type { Clock } from "../clock.ts";
import { publicError, unavailable } from "../errors.ts";
import { whole } from "../handlers.ts";
import type { Handler, Handlers } from "../handlers.ts";
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
  credentials?: ServerCredentials;
}

export interface GrpcServer {
  readonly port: number;
  /**
   * Takes no new calls, ends streams with UNAVAILABLE at once and what else is under way after `graceMs`; answers when all connections are
   * closed.
   */
  close(graceMs: number): Promise<void>;
}

type Stream = ServerDuplexStream<Buffer, Buffer>;

export async function serveGrpc(options: GrpcServerOptions): Promise<GrpcServer> {
  const { host, port, handlers, log, clock = systemClock } = options;
  const { credentials = ServerCredentials.createInsecure() } = options;
  const { maxMessageBytes = defaultMaxMessageBytes, maxCallsPerConnection = 1_000 } = options;
  const settings: CallSettings = {
    protocolName: "grpc",
    clock,
    onInternalError: (error, method) =>
      log.error({ err: error, rpc: nameOf(method) }, "a call failed for a reason of ours"),
    calls: new Set(),
  };
  const server = new Server({
    "grpc.max_receive_message_length": maxMessageBytes,
    "grpc.max_send_message_length": maxMessageBytes,
    "grpc.max_concurrent_streams": maxCallsPerConnection,
    "grpc.keepalive_time_ms": keepaliveMs,
    "grpc.keepalive_timeout_ms": keepaliveTimeoutMs,
    "grpc.enable_channelz": 0,
  });
  handlers.each((handler) => register(server, handler, settings, maxMessageBytes));
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(
      `${host.includes(":") ? `[${host}]` : host}:${port}`,
      credentials,
      (error, at) => (error === null ? resolve(at) : reject(error)),
    );
  });
  return { port: bound, close: (graceMs) => close(server, settings, graceMs) };
}

function nameOf({ parent, name }: DescMethod): string {
  return `${parent.typeName}/${name}`;
}

/** All kinds of call look alike on the wire, so that all are served as streams both ways. */
function register(
  server: Server,
  handler: Handler,
  settings: CallSettings,
  maxMessageBytes: number,
): void {
  const same = (bytes: Buffer): Buffer => bytes;
  const answer = (stream: Stream): void => serveCall(stream, handler, settings, maxMessageBytes);
  server.register(`/${nameOf(handler.method)}`, answer, same, same, "bidi");
}

function serveCall(
  stream: Stream,
  handler: Handler,
  settings: CallSettings,
  maxMessageBytes: number,
): void {
  const dueMs = Number(stream.getDeadline());
  const timeoutMs = Number.isFinite(dueMs) ? dueMs - systemClock.now() : undefined;
  const header = toHeaders(stream.metadata);
  try {
    const call = new Call(
      handler,
      { signal: undefined, timeoutMs, header, contextValues: undefined },
      settings,
    );
    // A call that ended well or was answered is told here, too.
    stream.on("cancelled", () => call.end(over(), over()));
    void answer(stream, handler, call, maxMessageBytes);
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

async function close(
  server: Server,
  { calls, clock }: CallSettings,
  graceMs: number,
): Promise<void> {
  const error = unavailable("this server is closing");
  for (const call of calls) {
    if (call.context.method.methodKind !== "unary") call.end(error, error);
  }
  await new Promise<void>((resolve) => {
    const cancel = clock.after(graceMs, () => {
      for (const call of calls) call.end(error, error);
      // The statuses of those go out in this turn.
      clock.afterTurn(() => {
        server.forceShutdown();
        resolve();
      });
    });
    server.tryShutdown(() => {
      cancel();
      resolve();
    });
  });
}
