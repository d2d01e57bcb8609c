/** What a client is made with, and every bound it keeps, with its default. */
import type { ConnectionRules, TransportName } from "./connection.ts";
import { MemoryStore, type ClientStore } from "./store.ts";
import {
  platformClock,
  platformRandom,
  platformWebSocket,
  type ClientClock,
  type ClientRandom,
  type WebSocketConstructor,
} from "./surroundings.ts";

export interface ClientOptions {
  /** The server's address: "https://chat.example.org". */
  readonly url: string;
  /** A JWT, or where to get one: asked before each connection, and once more where the server refuses it. */
  readonly token: string | (() => string | Promise<string>);
  /** This install's name, 1 to 64 characters; without one, the store keeps one that is made up once. */
  readonly deviceId?: string;
  /** "auto": a WebSocket; where that is blocked a Connect stream; where that is held up long polls. */
  readonly transport?: "auto" | TransportName;
  /** Keeps the outbox and what is synced over a restart; without one, nothing outlives the client. */
  readonly store?: ClientStore;
  readonly webSocket?: WebSocketConstructor;
  readonly fetch?: typeof globalThis.fetch;
  readonly clock?: ClientClock;
  readonly random?: ClientRandom;
  /** How many of the newest records a sync brings for each conversation that changed; at most 50. */
  readonly recordsPerConversation?: number;
  /**
   * What was missed while away is fetched up to this many records a conversation; what is older is named by a gap event
   * with `more`, and `history` has it.
   */
  readonly historyOnSync?: number;
  readonly limits?: Partial<ClientLimits>;
}

export interface ClientLimits {
  /** Unsent messages and their bytes; a send beyond is refused at once. */
  outboxMessagesMax: number;
  outboxBytesMax: number;
  /** Sends under way at once. */
  sendsUnderWayMax: number;
  /** Newest records kept for each conversation, and for all together. */
  keptRecordsMax: number;
  keptRecordsTotalMax: number;
  /** Records held for each conversation while a hole before them is filled. */
  earlyRecordsMax: number;
  callsMax: number;
  /** How long a call may take, resumes and retries included. */
  callMs: number;
  /** A line on which nothing comes for so long while an answer is due is dead. The server answers within 10 s, even if only to refuse for the moment. */
  answerMs: number;
  /** How long a link may take until it is live, and how long the token function. */
  openMs: number;
  tokenMs: number;
  /** How long a poll waits at the server; at most 60,000. */
  pollMs: number;
  /** A Connect stream with nothing in this time is dead. */
  streamSilenceMs: number;
  backoffBaseMs: number;
  backoffCapMs: number;
  /** A connection that lived that long ends the backoff. */
  stableMs: number;
  /** How often a WebSocket is tried again while another transport is in use. */
  upgradeMs: number;
  /** How long a hole may be just pushes that overtook one another. */
  gapSettleMs: number;
  headSettleMs: number;
  /** After that many pushed records the sync token is renewed. */
  pushesPerToken: number;
  /** Changes of what is synced are gathered for this long before they are kept. */
  keepMs: number;
  typingMs: number;
}

const defaultLimits: ClientLimits = {
  outboxMessagesMax: 1_000,
  outboxBytesMax: 16 * 1024 * 1024,
  sendsUnderWayMax: 64,
  keptRecordsMax: 500,
  keptRecordsTotalMax: 20_000,
  earlyRecordsMax: 500,
  callsMax: 256,
  callMs: 30_000,
  answerMs: 15_000,
  openMs: 10_000,
  tokenMs: 30_000,
  pollMs: 25_000,
  streamSilenceMs: 90_000,
  backoffBaseMs: 500,
  backoffCapMs: 30_000,
  stableMs: 10_000,
  upgradeMs: 30_000,
  gapSettleMs: 150,
  headSettleMs: 2_000,
  pushesPerToken: 500,
  keepMs: 250,
  typingMs: 3_000,
};

/** The options with nothing left open. */
export interface Settings {
  readonly baseUrl: string;
  readonly token: () => Promise<string>;
  readonly rules: ConnectionRules;
  readonly deviceId: string | undefined;
  readonly store: ClientStore;
  readonly webSocket: WebSocketConstructor | undefined;
  readonly fetch: typeof globalThis.fetch;
  readonly clock: ClientClock;
  readonly random: ClientRandom;
  readonly recordsPerConversation: number;
  readonly historyOnSync: number;
  readonly limits: ClientLimits;
}

/** Throws a TypeError that names every option that is wrong. */
export function settingsOf(options: ClientOptions): Settings {
  const { token } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const webSocket = options.webSocket ?? platformWebSocket();
  const wrong = faultsOf(options, webSocket);
  if (wrong.length > 0) throw new TypeError(`ParleyClient: ${wrong.join("; ")}`);
  return {
    baseUrl: baseUrlOf(options.url),
    token: async () => (typeof token === "string" ? token : token()),
    rules: {
      transports: transportsOf(options.transport ?? "auto", webSocket !== undefined),
      tokenRenewable: typeof token !== "string",
      backoffBaseMs: limits.backoffBaseMs,
      backoffCapMs: limits.backoffCapMs,
      stableMs: limits.stableMs,
    },
    deviceId: options.deviceId,
    store: options.store ?? new MemoryStore(),
    webSocket,
    fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    clock: options.clock ?? platformClock,
    random: options.random ?? platformRandom,
    recordsPerConversation: options.recordsPerConversation ?? 20,
    historyOnSync: options.historyOnSync ?? 200,
    limits,
  };
}

function baseUrlOf(url: string): string {
  return url.replace(/^ws/u, "http").replace(/\/+$/u, "");
}

/**
 * An address that a server sent the client to, as a base address; "" where it is none that the client goes to. Who was configured with
 * TLS is not sent where the token could be read.
 */
export function toldUrl(text: string, configured: string): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return "";
  }
  const { protocol, host, pathname } = url;
  if (!/^(?:https?|wss?):$/u.test(protocol)) return "";
  const told = baseUrlOf(`${protocol}//${host}${pathname}`);
  return configured.startsWith("https:") && !told.startsWith("https:") ? "" : told;
}

function transportsOf(mode: "auto" | TransportName, webSockets: boolean): TransportName[] {
  if (mode !== "auto") return [mode];
  return webSockets ? ["websocket", "connect", "poll"] : ["connect", "poll"];
}

function faultsOf(options: ClientOptions, webSocket: WebSocketConstructor | undefined): string[] {
  const wrong: string[] = [];
  const { deviceId, recordsPerConversation: records } = options;
  if (!/^(?:http|ws)s?:\/\/./u.test(options.url)) {
    wrong.push(`url must begin with http:// or https://, not "${options.url}"`);
  }
  if (deviceId !== undefined && (deviceId.length < 1 || deviceId.length > 64)) {
    wrong.push(`deviceId must have 1 to 64 characters, not ${deviceId.length}`);
  }
  if (records !== undefined && !(records >= 0 && records <= 50)) {
    wrong.push(`recordsPerConversation must be 0 to 50, not ${records}`);
  }
  if (options.transport === "websocket" && webSocket === undefined) {
    wrong.push(
      'this platform has no WebSocket: give one as webSocket, or use createNodeClient of "client/node.ts"',
    );
  }
  return wrong;
}
