/** The states of a WebSocket connection, and what it shares with the others. */
import type { Clock } from "../mesh/clock.ts";
import type { Random } from "../mesh/random.ts";
import type { GatewayConfig } from "./config.ts";
import type { Connection } from "./connection.ts";
import type { Inspected } from "./connections.ts";
import type { FrameWriter, InFrame } from "./frames.ts";
import type { HeldPushes } from "./held.ts";
import type { Meter } from "./meter.ts";
import type { Flusher } from "./outbox.ts";
import type { Caller } from "./ports.ts";
import type { SendOrder, SendsUnderWay } from "./sends.ts";
import type { Unacked } from "./unacked.ts";

/** The socket, as `ws` has it. */
export interface Wire {
  readonly bufferedAmount: number;
  send(message: Buffer, written?: (error?: Error) => void): void;
  close(code: number, reason: string): void;
  terminate(): void;
  pause(): void;
  resume(): void;
}

/** No Hello yet. */
export interface Greeting {
  readonly t: "greeting";
  /** From the upgrade's Authorization header; empty where it had none. */
  readonly token: string;
}

/** The Hello is looked at, then session is asked to attach. What came after the Hello waits. */
export interface Admitting {
  readonly t: "admitting";
  readonly helloId: number;
  readonly syncToken: Uint8Array;
  readonly recordsPerConversation: number;
  readonly held: InFrame[];
  readonly untilMs: number;
  /** When the token ends; set when it was looked at. */
  expiresMs: number;
}

export interface Live {
  readonly t: "live";
  readonly caller: Caller;
  /** Milliseconds since 1970-01-01 UTC. */
  readonly expiresMs: number;
  /** Pushes that came while the device is synced. */
  held: HeldPushes | undefined;
  unacked: Unacked | undefined;
  order: SendOrder | undefined;
  underWay: SendsUnderWay | undefined;
  /** How many sends came, those that came again not counted. */
  sends: number;
  /** The last send whose attachments are looked up: later sends wait for it. */
  checking: Promise<void> | undefined;
  /** Of the last send or cursor: the next one is for the same conversation mostly. */
  conversationId: string;
  /** Calls other than the hot ones: how many run, and what waits for its turn. */
  running: number;
  waiting: (() => Promise<void>)[] | undefined;
}

/** It was told to go, its socket is still closing. */
export interface Draining {
  readonly t: "draining";
  readonly untilMs: number;
}

export type State = Greeting | Admitting | Live | Draining | { readonly t: "closed" };

/** What all connections of a gateway share. */
export interface Shared {
  readonly config: GatewayConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly writer: FrameWriter;
  readonly meter: Meter;
  readonly flusher: Flusher;
  /** A frame in the state greeting. */
  greeted(connection: Connection, token: string, frame: InFrame): void;
  /** Session knows the connection. */
  admitted(connection: Connection, state: Admitting): void;
  /** A frame in the state live. */
  asked(connection: Connection, live: Live, frame: InFrame): void;
  /** It is no longer a device's connection. */
  left(connection: Connection): void;
  /** Its socket is closed. */
  gone(connection: Connection): void;
}

const stages = {
  greeting: "greeting",
  admitting: "attaching",
  live: "live",
  draining: "ending",
  closed: "ending",
} as const;

export function inspected(state: State, conversationId: string, nowMs: number): Inspected {
  if (state.t !== "live") return { stage: stages[state.t], unacked: undefined };
  return {
    stage: state.held === undefined ? "live" : "syncing",
    unacked: state.unacked?.of(conversationId, nowMs),
  };
}
