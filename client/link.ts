/** One connection to the server, whatever carries it: frames out, frames in, one end. Links know nothing of retries. */
import type { ClientFrame, ServerFrame } from "../proto/gen/parley/v1/frame_pb.ts";
import type { Closing } from "./connection.ts";
import type { ClientClock, WebSocketConstructor } from "./surroundings.ts";

export interface Link {
  /** Whether calls are taken in the order in which they are given. */
  readonly ordered: boolean;
  /** What one turn gathered. Ignored once closed. */
  send(frames: readonly ClientFrame[]): void;
  /** The listener hears nothing more. */
  close(): void;
}

export interface LinkListener {
  /** The way to the server is open; the greeting is under way. */
  opened(): void;
  /** The first one is a Welcome. */
  frame(frame: ServerFrame): void;
  /** At most once, and the last call. */
  closed(closing: Closing): void;
}

export interface LinkSettings {
  /** "https://chat.example.org", without a slash at the end. */
  readonly baseUrl: string;
  readonly token: string;
  readonly deviceId: string;
  readonly recordsPerConversation: number;
  /** The newest sync token: asked for at the start, and before each poll. */
  syncToken(): Uint8Array<ArrayBuffer>;
  readonly clock: ClientClock;
  readonly fetch: typeof globalThis.fetch;
  readonly webSocket: WebSocketConstructor | undefined;
  readonly callMs: number;
  readonly pollMs: number;
}
