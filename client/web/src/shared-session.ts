/**
 * A tab's session. One tab of each account in a browser is connected for all of them: the one that holds the account's lock. When it closes,
 * the lock goes to the next tab, which goes on with what is kept; when it is frozen, a tab that somebody looks at takes the lock away.
 */
import { fetchMedia } from "../../media.ts";
import { platformClock, type Cancel } from "../../surroundings.ts";
import {
  accountName,
  isChannelMessage,
  repeatable,
  type Answer,
  type Args,
  type CallName,
  type ChannelMessage,
  type HostMessage,
} from "./channel.ts";
import { newClientId } from "./host.ts";
import { HostChannel } from "./host-channel.ts";
import type {
  Account,
  Attachment,
  ConversationView,
  HistoryPage,
  HistoryWindow,
  MemberCursor,
  MessageInput,
  SendTarget,
  Session,
  SessionEvent,
  UploadWatch,
} from "./session.ts";
import { uploadFile } from "./uploading.ts";

const pingMs = 3_000;
/** Pings without an answer before a host is taken for frozen. */
const missedMax = 3;
const callsMax = 1_000;

interface Call {
  readonly name: CallName;
  readonly args: readonly unknown[];
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  /** Which host it was posted to; 0: none yet. */
  readonly host: number;
}

interface Unsettled {
  readonly to: SendTarget;
  readonly message: MessageInput;
  /** The call that hands it to the host. */
  readonly id: number;
}

export class SharedSession implements Session {
  readonly #url: string;
  readonly #account: Account;
  readonly #channel: BroadcastChannel;
  /** Also the name of the lock that says that this tab is there. */
  readonly #tab = `tab.${newClientId()}`;
  readonly #listeners = new Map<(event: SessionEvent) => void, "waits" | "told">();
  readonly #calls = new Map<number, Call>();
  /** Own messages that no host has said to be sent: the next host gets them once more, under their ids. */
  readonly #unsettled = new Map<string, Unsettled>();
  readonly #closing = new AbortController();
  #watched: readonly string[] | undefined;
  #lastCall = 0;
  #host = 0;
  /** The host's snapshot has come: calls can go to it. */
  #joined = false;
  #missed = 0;
  #cancelPing: Cancel = () => undefined;
  #own: HostChannel | undefined;
  #closed = false;

  constructor(url: string, account: Account) {
    this.#url = url;
    this.#account = account;
    this.#channel = new BroadcastChannel(accountName(account.userId));
    this.#channel.addEventListener("message", ({ data }) => {
      if (isChannelMessage(data)) this.#heard(data);
    });
    const { signal } = this.#closing;
    const untilClosed = (): Promise<void> =>
      new Promise((resolve) => signal.addEventListener("abort", () => resolve()));
    void navigator.locks.request(this.#tab, untilClosed);
    addEventListener("online", () => this.reconnect(), { signal });
    addEventListener("offline", () => this.#tellHost("doubt"), { signal });
    document.addEventListener("visibilitychange", () => this.#looked(), { signal });
    void this.#compete(false);
    this.#hello();
    this.#ping();
  }

  subscribe(listener: (event: SessionEvent) => void): () => void {
    this.#listeners.set(listener, "waits");
    this.#hello();
    return () => void this.#listeners.delete(listener);
  }

  /** Whether this tab is the connected one, and what carries its connection. */
  get own(): string | undefined {
    return this.#own === undefined ? undefined : (this.#own.host.transport ?? "none");
  }

  reconnect(): void {
    this.#tellHost("reconnect");
  }

  async send(to: SendTarget, message: MessageInput): Promise<string> {
    const clientId = newClientId();
    const called = this.#call("send", [to, message, { clientId, retry: false }]);
    this.#unsettled.set(clientId, { to, message, id: this.#lastCall });
    try {
      return await called;
    } catch (error) {
      this.#unsettled.delete(clientId);
      throw error;
    }
  }

  retry(clientId: string): Promise<void> {
    return this.#call("retry", [clientId]);
  }

  drop(clientId: string): Promise<void> {
    this.#unsettled.delete(clientId);
    return this.#call("drop", [clientId]);
  }

  markRead(conversationId: string, seq: number): void {
    this.#tellHost("markRead", conversationId, seq);
  }

  setTyping(conversationId: string): void {
    this.#tellHost("setTyping", conversationId);
  }

  history(conversationId: string, window: HistoryWindow): Promise<HistoryPage> {
    return this.#call("history", [conversationId, window]);
  }

  members(conversationId: string): Promise<readonly MemberCursor[]> {
    return this.#call("members", [conversationId]);
  }

  createGroup(title: string, memberIds: readonly string[]): Promise<ConversationView> {
    return this.#call("createGroup", [title, memberIds]);
  }

  updateGroup(conversationId: string, change: Args<"updateGroup">[1]): Promise<void> {
    return this.#call("updateGroup", [conversationId, change]);
  }

  leaveGroup(conversationId: string): Promise<void> {
    return this.#call("leaveGroup", [conversationId]);
  }

  watchPresence(userIds: readonly string[]): Promise<void> {
    this.#watched = userIds;
    return this.#call("watchPresence", [this.#tab, userIds]);
  }

  async upload(
    conversationId: string,
    file: Blob,
    fileName: string,
    watch: UploadWatch,
  ): Promise<Attachment> {
    const token = await this.#account.token();
    return uploadFile(this.#url, token, conversationId, file, fileName, watch);
  }

  /** An image never changes: the browser's own cache has it while offline. */
  async media(conversationId: string, mediaId: string): Promise<Blob> {
    const settings = {
      baseUrl: this.#url,
      fetch: (input: RequestInfo | URL, init?: RequestInit) =>
        fetch(input, { ...init, cache: "force-cache" }),
      token: () => this.#account.token(),
      clock: platformClock,
    };
    return (await fetchMedia(settings, conversationId, mediaId)).blob();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelPing();
    this.#listeners.clear();
    this.#channel.close();
    for (const call of this.#calls.values()) call.reject(new Error("the page was closed"));
    this.#calls.clear();
    // The lock is held until all is kept: the next host begins with it.
    await this.#own?.close();
    this.#closing.abort();
  }

  /** Waits for the account's lock, or takes it; while this tab has it, it is the host. */
  async #compete(steal: boolean): Promise<void> {
    const { signal } = this.#closing;
    let own: HostChannel | undefined;
    try {
      const how = steal ? { steal } : { signal };
      await navigator.locks.request(accountName(this.#account.userId), how, async () => {
        if (this.#closed) return;
        own = new HostChannel(this.#url, this.#account);
        this.#own = own;
        await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      });
    } catch {
      // The page is closed, or another tab took the lock and is the host.
      this.#own = this.#own === own ? undefined : this.#own;
      await own?.close();
      if (!this.#closed) void this.#compete(false);
    }
  }

  #heard(message: ChannelMessage): void {
    switch (message.t) {
      case "here":
      case "snapshot":
      case "event":
      case "answer":
        if (message.host >= this.#host) this.#heardHost(message);
        return;
      case "signed-out":
        this.#tell({
          t: "connection",
          connection: { t: "stopped", reason: "you signed out in another tab", signedOut: true },
        });
        void this.close();
        return;
      default:
    }
  }

  #heardHost(message: HostMessage): void {
    this.#missed = 0;
    if (message.host > this.#host) {
      this.#host = message.host;
      this.#joined = false;
      this.#hello();
      return;
    }
    if (message.t === "snapshot" && message.tab === this.#tab) this.#join(message);
    if (message.t === "event" && this.#joined) this.#event(message.event);
    if (message.t === "answer" && message.tab === this.#tab) {
      const call = this.#calls.get(message.id);
      this.#calls.delete(message.id);
      if (message.error === "") call?.resolve(message.value);
      else call?.reject(new Error(message.error));
    }
  }

  /** The listeners that wait get the snapshot; all of them do where it is another host's. */
  #join({ snapshot }: HostMessage & { t: "snapshot" }): void {
    for (const [listener, state] of this.#listeners) {
      if (this.#joined && state === "told") continue;
      this.#listeners.set(listener, "told");
      listener({ t: "snapshot", snapshot });
    }
    if (this.#joined) return;
    this.#joined = true;
    this.#handOver(new Set(snapshot.pending.map(({ clientId }) => clientId)));
    if (this.#watched !== undefined) this.#tellHost("watchPresence", this.#tab, this.#watched);
  }

  /** Makes the new host's what the one before has not answered. `pending`: the sends that it knows of. */
  #handOver(pending: ReadonlySet<string>): void {
    for (const [id, call] of [...this.#calls]) {
      if (call.name === "send") continue;
      if (call.host === 0 || repeatable.has(call.name)) this.#post(id, call);
      else {
        this.#calls.delete(id);
        call.reject(new Error("the connection went to another tab: look whether it was done"));
      }
    }
    // In the order in which they were written.
    for (const [clientId, { to, message, id }] of [...this.#unsettled]) {
      const call = this.#calls.get(id);
      const name = { clientId, retry: call?.host !== 0 };
      if (call !== undefined) this.#post(id, { ...call, args: [to, message, name] });
      else if (!pending.has(clientId)) this.#tellHost("send", to, message, name);
    }
  }

  #event(event: SessionEvent): void {
    const failed = event.t === "pending" && event.pending.error !== "";
    if (event.t === "sent" || event.t === "dropped") this.#unsettled.delete(event.clientId);
    else if (failed) this.#unsettled.delete(event.pending.clientId);
    this.#tell(event);
  }

  #tell(event: SessionEvent): void {
    for (const [listener, state] of this.#listeners) if (state === "told") listener(event);
  }

  #hello(): void {
    this.#say({ t: "hello", tab: this.#tab });
  }

  /** Asks the host whether it is there, for as long as somebody looks at this tab. */
  #ping(): void {
    this.#cancelPing = platformClock.after(pingMs, () => {
      this.#ping();
      if (document.visibilityState !== "visible" || this.#own !== undefined) return;
      if (this.#missed >= missedMax) {
        this.#missed = 0;
        void this.#compete(true);
      } else {
        this.#missed += 1;
        this.#say({ t: "ping" });
      }
    });
  }

  /** Timers of hidden tabs are slow: who looks again wants the connection now. */
  #looked(): void {
    if (document.visibilityState !== "visible") return;
    this.#missed = 0;
    this.#say({ t: "ping" });
    this.reconnect();
  }

  #tellHost<Name extends CallName>(name: Name, ...args: Args<Name>): void {
    if (this.#joined) this.#call(name, args).catch(() => undefined);
  }

  #call<Name extends CallName>(name: Name, args: Args<Name>): Promise<Answer<Name>> {
    return new Promise((resolve, reject) => {
      if (this.#calls.size >= callsMax || this.#closing.signal.aborted) {
        reject(new Error("too much is under way: try again in a moment"));
        return;
      }
      const take = (value: unknown): void => {
        if (isAnswer(name, value)) resolve(value);
      };
      this.#lastCall += 1;
      const call = { name, args, resolve: take, reject, host: 0 };
      this.#calls.set(this.#lastCall, call);
      if (this.#joined) this.#post(this.#lastCall, call);
    });
  }

  #post(id: number, call: Call): void {
    this.#calls.set(id, { ...call, host: this.#host });
    this.#say({ t: "call", tab: this.#tab, id, name: call.name, args: call.args });
  }

  #say(message: ChannelMessage): void {
    if (!this.#closed) this.#channel.postMessage(message);
  }
}

/** The host's answers are what its calls give: both are this page's code. */
function isAnswer<Name extends CallName>(_name: Name, _value: unknown): _value is Answer<Name> {
  return true;
}

/** Signs an account out in all tabs: they end, and whoever asked can forget what is kept. */
export function endSessions(userId: string): void {
  const channel = new BroadcastChannel(accountName(userId));
  channel.postMessage({ t: "signed-out" } satisfies ChannelMessage);
  channel.close();
}
