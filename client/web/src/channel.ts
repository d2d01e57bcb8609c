/** What the tabs of one account say to one another: the one that is connected (the host) answers calls and tells what happens. */
import type { SendName } from "../../index.ts";
import type { MessageInput, SendTarget, Session, SessionEvent, Snapshot } from "./session.ts";

/** The calls that the host makes for all tabs. `tab`: whose call it is. */
export interface HostCalls extends Pick<
  Session,
  "retry" | "drop" | "history" | "members" | "createGroup" | "updateGroup" | "leaveGroup"
> {
  send(to: SendTarget, message: MessageInput, name: SendName): Promise<string>;
  markRead(conversationId: string, seq: number): Promise<void>;
  setTyping(conversationId: string): Promise<void>;
  reconnect(): Promise<void>;
  /** The network went away, or seems to have. */
  doubt(): Promise<void>;
  watchPresence(tab: string, userIds: readonly string[]): Promise<void>;
}

export type CallName = keyof HostCalls;
export type Args<Name extends CallName> = Parameters<HostCalls[Name]>;
export type Answer<Name extends CallName> = Awaited<ReturnType<HostCalls[Name]>>;

/** Those that may be made twice: a new host is asked again. */
export const repeatable: ReadonlySet<CallName> = new Set<CallName>([
  "drop",
  "markRead",
  "history",
  "members",
  "watchPresence",
]);

/** To the host. */
export type TabMessage =
  /** Wants a snapshot, then events. */
  | { readonly t: "hello"; readonly tab: string }
  | { readonly t: "ping" }
  | {
      readonly t: "call";
      readonly tab: string;
      readonly id: number;
      readonly name: CallName;
      readonly args: readonly unknown[];
    };

/** From the host; hosts are numbered, and a later one counts for more. */
export type HostMessage =
  | { readonly t: "here"; readonly host: number }
  | {
      readonly t: "snapshot";
      readonly host: number;
      readonly tab: string;
      readonly snapshot: Snapshot;
    }
  | { readonly t: "event"; readonly host: number; readonly event: SessionEvent }
  | {
      readonly t: "answer";
      readonly host: number;
      readonly tab: string;
      readonly id: number;
      readonly value: unknown;
      /** Why it failed; "" where it did not. */
      readonly error: string;
    };

export type ChannelMessage = TabMessage | HostMessage | { readonly t: "signed-out" };

/** Only this page's own tabs can speak here, so its own types hold. */
export function isChannelMessage(data: unknown): data is ChannelMessage {
  return typeof data === "object" && data !== null && "t" in data;
}

/** One name for all that belongs to one account at one server: the channel, the locks, what is kept. */
export const accountName = (userId: string): string => `parley/${userId}`;

export const storeName = (userId: string): string => `${accountName(userId)}/client`;
export const cacheName = (userId: string): string => `${accountName(userId)}/entries`;
