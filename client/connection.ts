/**
 * The state of being connected, as a tagged union that only `next` moves. Pure: times and chance come with the events, and
 * what a state calls for (open a link, wait) is the dialer's to do.
 */
import { jitteredBackoffMs } from "./surroundings.ts";

export type TransportName = "websocket" | "connect" | "poll";

/** Why a link ended. */
export interface Closing {
  /** 4000 plus the CloseReason where the server said one; else a WebSocket code, or 0. */
  readonly code: number;
  readonly reason: string;
  /** When the server wants the client back; 0 where it did not say. */
  readonly retryAfterMs: number;
  /** "transport": this way to the server may be blocked. "stream": streams do not come through. */
  readonly fault: "none" | "transport" | "stream";
  /** Where the server wants the client to come back; "": where it did not say. */
  readonly url: string;
}

/** What goes from one connection to the next. */
export interface Trail {
  readonly transport: TransportName;
  /** Links in a row that did not last: how far the backoff has come. */
  readonly failures: number;
  /** Links in a row that this transport failed to open. */
  readonly openFailures: number;
  /** The server refused the last token: another one is tried once. */
  readonly refused: boolean;
  /** Where the server sent the client to, for the present link or the next one; "": the address that it was configured with. */
  readonly url: string;
}

export type Connection =
  | { readonly t: "idle"; readonly trail: Trail }
  | { readonly t: "connecting"; readonly trail: Trail }
  | { readonly t: "greeting"; readonly trail: Trail }
  | {
      readonly t: "live";
      readonly trail: Trail;
      readonly userId: string;
      readonly sinceMs: number;
    }
  | {
      readonly t: "waiting";
      readonly trail: Trail;
      readonly delayMs: number;
      readonly why: Closing;
    }
  /** Stays away until the user acts: `why.code` says why, 1000 being the app's own wish. */
  | { readonly t: "stopped"; readonly trail: Trail; readonly why: Closing };

export type ConnectionEvent =
  /** The app wants to be connected, now. */
  | { readonly t: "start" }
  | { readonly t: "waited" }
  | { readonly t: "opened" }
  | { readonly t: "welcomed"; readonly userId: string; readonly atMs: number }
  | {
      readonly t: "closed";
      readonly closing: Closing;
      readonly atMs: number;
      readonly chance: number;
    }
  /** A WebSocket was seen to open while another transport is in use. */
  | { readonly t: "upgrade" }
  | { readonly t: "stop"; readonly why: Closing };

export interface ConnectionRules {
  /** The transports to try, the best one first; the next one where one fails, and around again. */
  readonly transports: readonly TransportName[];
  /** Whether asking for a token again may bring another one. */
  readonly tokenRenewable: boolean;
  readonly backoffBaseMs: number;
  readonly backoffCapMs: number;
  /** A connection that lived that long ends the backoff. */
  readonly stableMs: number;
}

/** Failures to open before the next transport is tried. */
const openFailuresMax = 2;
/** The longest that a server can send a client away for. */
const retryAfterCapMs = 300_000;

export const unauthenticatedCode = 4100;

/** `worked`: the transport that was live last, which is tried first; a better one is looked for once it is live. */
export function begin(rules: ConnectionRules, worked?: string): Connection {
  const transport = rules.transports.find((name) => name === worked) ?? best(rules);
  return { t: "idle", trail: { transport, failures: 0, openFailures: 0, refused: false, url: "" } };
}

export function closing(
  code: number,
  reason: string,
  fault: Closing["fault"] = "none",
  retryAfterMs = 0,
  url = "",
): Closing {
  return { code, reason, retryAfterMs, fault, url };
}

/** The one place where a connection's state changes. An event that does not fit the state changes nothing. */
export function next(
  state: Connection,
  event: ConnectionEvent,
  rules: ConnectionRules,
): Connection {
  const { trail } = state;
  switch (event.t) {
    case "start":
      if (state.t === "stopped") return { t: "connecting", trail: { ...trail, refused: false } };
      return state.t === "idle" || state.t === "waiting" ? { t: "connecting", trail } : state;
    case "waited":
      return state.t === "waiting" ? { t: "connecting", trail } : state;
    case "opened":
      return state.t === "connecting" ? { t: "greeting", trail } : state;
    case "welcomed":
      if (state.t !== "connecting" && state.t !== "greeting") return state;
      return { t: "live", trail, userId: event.userId, sinceMs: event.atMs };
    case "upgrade":
      if (state.t !== "live" || trail.transport === best(rules)) return state;
      return { t: "connecting", trail: { ...trail, transport: best(rules), openFailures: 0 } };
    case "closed":
      return state.t === "idle" || state.t === "stopped" || state.t === "waiting"
        ? state
        : afterClosing(state, event, rules);
    case "stop":
      if (state.t === "stopped") return state;
      return { t: "stopped", trail: { ...trail, url: "" }, why: event.why };
  }
}

function afterClosing(
  state: Connection,
  event: ConnectionEvent & { t: "closed" },
  rules: ConnectionRules,
): Connection {
  const why = event.closing;
  const lasted = state.t === "live" && event.atMs - state.sinceMs >= rules.stableMs;
  const failures = lasted ? 0 : state.trail.failures;
  const refused = lasted ? false : state.trail.refused;
  const trail: Trail = {
    ...afterFault(state.trail, why, state.t === "live", rules),
    failures: failures + 1,
    refused: refused || why.code === unauthenticatedCode,
    url: nextUrl(state, why),
  };
  if (why.code >= unauthenticatedCode && why.code < 5000) {
    const again = why.code === unauthenticatedCode && rules.tokenRenewable && !refused;
    if (!again) return { t: "stopped", trail, why };
  }
  return { t: "waiting", trail, delayMs: delayOf(why, failures, event.chance, rules), why };
}

/** A server that says when to come back has spread its clients itself; where that did not help the last time, the wait grows all the same. */
function delayOf(
  why: Closing,
  failures: number,
  chance: number,
  { backoffBaseMs, backoffCapMs }: ConnectionRules,
): number {
  const toldMs = Math.min(why.retryAfterMs, retryAfterCapMs);
  if (toldMs > 0 && failures === 0) return toldMs;
  return Math.max(toldMs, jitteredBackoffMs(failures, chance, backoffBaseMs, backoffCapMs));
}

/**
 * Where the next link goes. A server is sent to once: where no Welcome came from there, or the link to it was lost, the configured address
 * is next, and says anew where to go.
 */
function nextUrl({ t, trail }: Connection, why: Closing): string {
  return t === "live" || trail.url === "" ? why.url : "";
}

/** Which transport is next. A link that was live, or that the server itself closed, says nothing against its transport. */
function afterFault(trail: Trail, why: Closing, wasLive: boolean, rules: ConnectionRules): Trail {
  // Nor does one to where the server sent the client, which may not be reachable by any.
  if (wasLive || why.fault === "none" || trail.url !== "") {
    return { ...trail, openFailures: wasLive ? 0 : trail.openFailures };
  }
  const openFailures = trail.openFailures + 1;
  if (openFailures < openFailuresMax && why.fault !== "stream") return { ...trail, openFailures };
  // Around again: where nothing works, the fault is hardly the transport's, and the best one is worth another try.
  const at = rules.transports.indexOf(trail.transport) + 1;
  return { ...trail, transport: rules.transports[at] ?? best(rules), openFailures: 0 };
}

function best(rules: ConnectionRules): TransportName {
  return rules.transports[0] ?? "connect";
}
