/** What the chat uses of the SDK. A scripted one stands in for it in tests. */
import type { Connection, ParleyClient } from "../client/index.ts";
import type { Link } from "./chat-state.ts";

export type ChatSdk = Pick<
  ParleyClient,
  | "on"
  | "connect"
  | "ready"
  | "close"
  | "connection"
  | "conversations"
  | "conversation"
  | "records"
  | "send"
  | "pending"
  | "markRead"
  | "history"
  | "listMembers"
  | "createGroup"
  | "updateGroup"
  | "leaveGroup"
  | "watchPresence"
  | "setTyping"
>;

export function linkOf(connection: Connection, nowMs: number): Link {
  switch (connection.t) {
    case "live":
      return { t: "live", transport: connection.trail.transport };
    case "idle":
    case "connecting":
    case "greeting":
      return { t: "connecting" };
    case "waiting":
      return { t: "waiting", untilMs: nowMs + connection.delayMs, why: whyOf(connection.why) };
    case "stopped":
      return { t: "stopped", why: whyOf(connection.why) };
  }
}

function whyOf({ code, reason }: { code: number; reason: string }): string {
  if (code === 4102)
    return "this device connected somewhere else: each window needs a state file of its own (--state)";
  if (code === 4100)
    return `the server does not take the token${reason === "" ? "" : `: ${reason}`}`;
  return reason === "" ? `the connection was closed (${code})` : reason;
}

export function messageOf(error: unknown): string {
  if (error instanceof Error && "rawMessage" in error) return String(error.rawMessage);
  return error instanceof Error ? error.message : String(error);
}
