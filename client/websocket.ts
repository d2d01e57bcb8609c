/** A link over a WebSocket: a batch of frames is one binary message. */
import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import {
  ClientFrameSchema,
  type ClientFrame,
  type ServerFrame,
} from "../proto/gen/parley/v1/frame_pb.ts";
import { closing } from "./connection.ts";
import { decodeServerBatch, encodeClientBatch, failureFrame, packClientBatches } from "./frames.ts";
import type { Link, LinkListener, LinkSettings } from "./link.ts";
import { PacedWay } from "./pace.ts";
import type { WebSocketConstructor, WebSocketLike } from "./surroundings.ts";

export const subprotocol = "parley.v1";

/** Frames in one message: the server bounds a batch. */
const batchFramesMax = 100;
const notFrames = closing(0, "the server sent a message that is no batch of frames", "transport");

/** Until Welcome tells. */
const firstFrameBytesMax = 65_536;

export function webSocketUrl(baseUrl: string): string {
  return `${baseUrl.replace(/^http/u, "ws")}/ws`;
}

export function openWebSocketLink(
  constructor: WebSocketConstructor,
  settings: LinkSettings,
  listener: LinkListener,
): Link {
  const socket = new constructor(webSocketUrl(settings.baseUrl), [subprotocol]);
  socket.binaryType = "arraybuffer";
  let open = false;
  let done = false;
  let frameBytesMax = firstFrameBytesMax;
  const way = new PacedWay(settings.clock, (bytes) => sendTo(socket, bytes));

  socket.addEventListener("open", () => {
    if (done) return;
    open = true;
    sendTo(socket, encodeClientBatch([hello(settings)]));
    listener.opened();
  });
  socket.addEventListener("message", (event) => {
    if (done) return;
    const frames = decode(event.data);
    if (frames === undefined) end(notFrames);
    else for (const frame of frames) take(frame);
  });
  // The close event that follows says all there is to say; without a listener, `ws` throws.
  socket.addEventListener("error", () => undefined);
  socket.addEventListener("close", (event) => {
    const code = event.code ?? 1006;
    const fault = code >= 4000 && code < 5000 ? "none" : "transport";
    const what = open ? "the connection was cut" : "no WebSocket could be opened";
    end(closing(code, event.reason || `${what} (${code})`, fault));
  });

  function take(frame: ServerFrame): void {
    if (frame.frame.case === "welcome") {
      const { maxFrameBytes, framesPerSecond, bytesPerSecond } = frame.frame.value;
      if (maxFrameBytes > 0) frameBytesMax = maxFrameBytes;
      way.pace.allow(framesPerSecond, bytesPerSecond);
    }
    if (!done) listener.frame(frame);
  }

  function close(): boolean {
    if (done) return false;
    done = true;
    way.close();
    closeQuietly(socket);
    return true;
  }

  function end(why: Parameters<LinkListener["closed"]>[0]): void {
    if (close()) listener.closed(why);
  }

  return {
    ordered: true,
    send(frames) {
      if (done || !open) return;
      const framesMax = Math.min(batchFramesMax, way.pace.framesAtOnce);
      const { batches, tooLarge } = packClientBatches(frames, frameBytesMax, framesMax);
      way.send(batches);
      for (const frame of tooLarge) {
        const text = `larger than the ${frameBytesMax} bytes that the server takes: send less at once`;
        listener.frame(failureFrame(frame.requestId, Code.InvalidArgument, text));
      }
    },
    close: () => void close(),
  };
}

/** Opens a WebSocket and closes it again: whether one comes through. */
export function probeWebSocket(
  constructor: WebSocketConstructor,
  baseUrl: string,
  opened: () => void,
): () => void {
  const socket = new constructor(webSocketUrl(baseUrl), [subprotocol]);
  let done = false;
  socket.addEventListener("error", () => undefined);
  socket.addEventListener("open", () => {
    if (done) return;
    done = true;
    closeQuietly(socket);
    opened();
  });
  return () => {
    if (done) return;
    done = true;
    closeQuietly(socket);
  };
}

function hello(settings: LinkSettings): ClientFrame {
  return create(ClientFrameSchema, {
    requestId: 0xffff_ffff,
    frame: {
      case: "hello",
      value: {
        $typeName: "parley.v1.Hello",
        token: settings.token,
        deviceId: settings.deviceId,
        syncToken: settings.syncToken(),
        recordsPerConversation: settings.recordsPerConversation,
      },
    },
  });
}

function decode(data: unknown): ReturnType<typeof decodeServerBatch> | undefined {
  if (!(data instanceof ArrayBuffer)) return undefined;
  try {
    return decodeServerBatch(new Uint8Array(data));
  } catch {
    return undefined;
  }
}

/** A socket that is closing throws or drops what is sent: its close event tells, and what it held is sent again. */
function sendTo(socket: WebSocketLike, bytes: Uint8Array<ArrayBuffer>): void {
  try {
    socket.send(bytes);
  } catch {
    closeQuietly(socket);
  }
}

function closeQuietly(socket: WebSocketLike): void {
  try {
    socket.close(1000);
  } catch {
    // Browsers throw where it never opened; there is nothing to close then.
  }
}
