/** The tab that is connected: one SDK client, what it keeps in this browser, and the calls that all tabs of the account make. */
import { ConnectError } from "@connectrpc/connect";
import {
  ParleyClient,
  type Connection,
  type SendHandle,
  type SendName,
  type TransportName,
} from "../../index.ts";
import { IndexedDbStore } from "../../indexeddb.ts";
import { platformRandom, toBase64Url } from "../../surroundings.ts";
import { cacheName, storeName, type HostCalls } from "./channel.ts";
import { entryOf, messageBodyOf, presenceOf } from "./entries.ts";
import { EntryCache } from "./entry-cache.ts";
import { withErasure } from "./erased.ts";
import type {
  Account,
  ConnectionView,
  ConversationView,
  Entry,
  HistoryPage,
  HistoryWindow,
  MemberCursor,
  MessageInput,
  Pending,
  PresenceView,
  SendTarget,
  SessionEvent,
  Snapshot,
} from "./session.ts";

const membersMax = 1_000;
/** Entries of each conversation that a tab is told at once. */
const newestMax = 30;
const pageMax = 50;
const unauthenticatedCode = 4100;

export class Host implements HostCalls {
  readonly #client: ParleyClient;
  readonly #account: Account;
  readonly #store: IndexedDbStore;
  readonly #cache: EntryCache;
  readonly #tell: (event: SessionEvent) => void;
  readonly #pending = new Map<string, Pending>();
  /** The newest entries of each conversation, without a hole. */
  readonly #newest = new Map<string, Entry[]>();
  /** Whom each tab watches. */
  readonly #watched = new Map<string, readonly string[]>();
  readonly #presences = new Map<string, PresenceView>();
  /** What happened before all that is kept was read. */
  #early: SessionEvent[] | undefined = [];
  #synced = false;

  /** `tell`: hears nothing before `begin` has resolved. */
  constructor(url: string, account: Account, tell: (event: SessionEvent) => void) {
    this.#account = account;
    this.#tell = tell;
    this.#store = new IndexedDbStore(storeName(account.userId));
    // What cannot be kept can be read as long as the server can be asked.
    this.#cache = new EntryCache(cacheName(account.userId), () => undefined);
    this.#client = new ParleyClient({
      url,
      token: () => account.token(),
      store: this.#store,
      recordsPerConversation: newestMax,
    });
    this.#listen();
  }

  /** Resolves once all that is kept is known; the connection comes when it comes. */
  async begin(): Promise<void> {
    const pending = await this.#cache.pending();
    await this.#loaded();
    const views = this.#client.conversations();
    await Promise.all(
      views.map(async ({ id, gotSeq }) => {
        const kept = await this.#cache.page(id, { beforeSeq: gotSeq + 1 }, newestMax);
        this.#newest.set(id, kept);
      }),
    );
    this.#restorePending(pending);
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const event of early) this.#emit(event);
  }

  snapshot(): Snapshot {
    return {
      userId: this.#account.userId,
      connection: connectionView(this.#client.connection),
      synced: this.#synced,
      conversations: this.#client.conversations(),
      newest: new Map([...this.#newest].map(([id, entries]) => [id, [...entries]])),
      pending: [...this.#pending.values()],
      presences: [...this.#presences.values()],
    };
  }

  /** What carries the connection, where there is one. */
  get transport(): TransportName | undefined {
    const { connection } = this.#client;
    return connection.t === "live" ? connection.trail.transport : undefined;
  }

  async close(): Promise<void> {
    await this.#client.close();
    this.#store.close();
    await this.#cache.close();
  }

  /** A tab is gone, and whom it watched with it. */
  forget(tab: string): void {
    if (this.#watched.delete(tab)) void this.#watch();
  }

  async send(to: SendTarget, message: MessageInput, name: SendName): Promise<string> {
    const known = this.#pending.get(name.clientId);
    if (known !== undefined) return name.clientId;
    this.#follow(this.#client.send(to, message, name), to, Date.now());
    return name.clientId;
  }

  async retry(clientId: string): Promise<void> {
    const failed = this.#pending.get(clientId);
    if (failed === undefined || failed.error === "") return;
    await this.drop(clientId);
    const { text, attachments, replyToSeq } = failed.body;
    const name = { clientId: newClientId(), retry: false };
    await this.send(failed.to, { text, attachments, replyToSeq }, name);
  }

  async drop(clientId: string): Promise<void> {
    if ((this.#pending.get(clientId)?.error ?? "") === "") return;
    this.#pending.delete(clientId);
    this.#emit({ t: "dropped", clientId });
    await this.#cache.dropPending(clientId);
  }

  async markRead(conversationId: string, seq: number): Promise<void> {
    this.#client.markRead(conversationId, seq);
  }

  async setTyping(conversationId: string): Promise<void> {
    this.#client.setTyping(conversationId);
  }

  async reconnect(): Promise<void> {
    this.#client.connect();
  }

  /** Only a new connection tells at once whether there is still a way to the server. */
  async doubt(): Promise<void> {
    if (this.#client.connection.t !== "live") return;
    this.#client.disconnect();
    this.#client.connect();
  }

  async history(conversationId: string, window: HistoryWindow): Promise<HistoryPage> {
    try {
      if (this.#client.connection.t === "live") return await this.#ask(conversationId, window);
    } catch (error) {
      const kept = await this.#kept(conversationId, window);
      if (kept.entries.length > 0) return kept;
      throw error;
    }
    return this.#kept(conversationId, window);
  }

  async members(conversationId: string): Promise<readonly MemberCursor[]> {
    const { members } = await this.#client.listMembers(conversationId, { limit: membersMax });
    return members.map(({ userId, deliveredSeq, readSeq }) => ({ userId, deliveredSeq, readSeq }));
  }

  createGroup(title: string, memberIds: readonly string[]): Promise<ConversationView> {
    return this.#client.createGroup(title, memberIds);
  }

  async updateGroup(
    conversationId: string,
    change: { add?: readonly string[]; remove?: readonly string[]; title?: string },
  ): Promise<void> {
    await this.#client.updateGroup(conversationId, change);
  }

  async leaveGroup(conversationId: string): Promise<void> {
    await this.#client.leaveGroup(conversationId);
  }

  async watchPresence(tab: string, userIds: readonly string[]): Promise<void> {
    this.#watched.set(tab, userIds);
    await this.#watch();
  }

  async #watch(): Promise<void> {
    const all = [...new Set([...this.#watched.values()].flat())];
    for (const userId of this.#presences.keys())
      if (!all.includes(userId)) this.#presences.delete(userId);
    const watching = this.#client.watchPresence(all);
    // The client asks again with each connection.
    if (this.#client.connection.t === "live") await watching;
    else watching.catch(() => undefined);
  }

  async #ask(conversationId: string, window: HistoryWindow): Promise<HistoryPage> {
    const { records, headSeq, floorSeq } = await this.#client.history(conversationId, window);
    const entries = records.map(entryOf);
    this.#cache.put(entries);
    return { entries, headSeq, floorSeq };
  }

  /** What is kept next to the window's given side. */
  async #kept(conversationId: string, window: HistoryWindow): Promise<HistoryPage> {
    const { afterSeq = 0, beforeSeq = 0, limit = pageMax } = window;
    const view = this.#client.conversation(conversationId);
    const headSeq = view?.headSeq ?? 0;
    const side = afterSeq > 0 ? { afterSeq } : { beforeSeq: beforeSeq || headSeq + 1 };
    const found = await this.#cache.page(conversationId, side, limit);
    const entries = found.filter(
      ({ seq }) => seq > afterSeq && (beforeSeq === 0 || seq < beforeSeq),
    );
    return { entries, headSeq, floorSeq: view?.floorSeq ?? 0 };
  }

  /** The first word about the connection comes once the store is read. */
  #loaded(): Promise<void> {
    return new Promise((resolve) => {
      const stop = this.#client.on("connection", () => {
        stop();
        resolve();
      });
      this.#client.connect();
    });
  }

  #listen(): void {
    const client = this.#client;
    client.on("connection", (connection) => {
      if (connection.t !== "live") this.#synced = false;
      this.#emit({ t: "connection", connection: connectionView(connection) });
    });
    client.on("synced", () => {
      this.#synced = true;
      this.#emit({ t: "synced" });
    });
    client.on("conversation", (conversation) => this.#emit({ t: "conversation", conversation }));
    client.on("record", ({ record }) => {
      const entry = entryOf(record);
      this.#cache.put([entry]);
      if (entry.body.t === "erasure") void this.#cache.erase(entry.conversationId, entry.body);
      this.#emit({ t: "entry", entry });
    });
    client.on("anew", () => {
      void this.#cache.forget();
      this.#emit({ t: "snapshot", snapshot: { ...this.snapshot(), newest: new Map() } });
    });
    client.on("gap", (gap) => this.#emit({ t: "gap", ...gap }));
    client.on("cursor", ({ conversationId, userId, deliveredSeq, readSeq }) =>
      this.#emit({ t: "cursor", conversationId, cursor: { userId, deliveredSeq, readSeq } }),
    );
    client.on("presence", (heard) => {
      const presence = presenceOf(heard);
      this.#presences.set(presence.userId, presence);
      this.#emit({ t: "presence", presence });
    });
    client.on("typing", ({ conversationId, userId }) =>
      this.#emit({ t: "typing", conversationId, userId }),
    );
  }

  #emit(event: SessionEvent): void {
    if (this.#early !== undefined) {
      this.#early.push(event);
      return;
    }
    // All begins anew.
    if (event.t === "snapshot") this.#newest.clear();
    if (event.t === "entry") this.#append(event.entry);
    if (event.t === "entry" && event.entry.body.t === "erasure") {
      const { conversationId, body } = event.entry;
      const newest = this.#newest.get(conversationId) ?? [];
      this.#newest.set(conversationId, [...withErasure(newest, body)]);
    }
    if (event.t === "gap") this.#newest.set(event.conversationId, []);
    this.#tell(event);
  }

  #append(entry: Entry): void {
    const entries = this.#newest.get(entry.conversationId) ?? [];
    const last = entries.at(-1);
    if (last !== undefined && last.seq >= entry.seq) return;
    if (last !== undefined && last.seq + 1 !== entry.seq) entries.length = 0;
    entries.push(entry);
    if (entries.length > 2 * newestMax) entries.splice(0, entries.length - newestMax);
    this.#newest.set(entry.conversationId, entries);
  }

  /** What was under way goes on; what the client had not kept yet when the tab was closed goes out once more, under its id. */
  #restorePending(kept: readonly Pending[]): void {
    const handles = new Map(this.#client.pending().map((handle) => [handle.clientId, handle]));
    for (const pending of kept.toSorted((one, other) => one.timeMs - other.timeMs)) {
      if (pending.error !== "") this.#pending.set(pending.clientId, pending);
      else this.#sendAgain(pending);
      handles.delete(pending.clientId);
    }
    for (const handle of handles.values())
      this.#follow(handle, { conversation: handle.conversationId ?? "" }, 0);
  }

  #sendAgain(pending: Pending): void {
    const { clientId, to, body, timeMs } = pending;
    const { text, attachments, replyToSeq } = body;
    try {
      const content = { text, attachments, replyToSeq };
      this.#follow(this.#client.send(to, content, { clientId, retry: true }), to, timeMs);
    } catch (error) {
      this.#pending.set(clientId, { ...pending, error: reasonOf(error) });
    }
  }

  #follow(handle: SendHandle, to: SendTarget, timeMs: number): void {
    const { clientId } = handle;
    const body = messageBodyOf(handle.content);
    const keep = (error: string): void => {
      const pending = { clientId, to, body, timeMs, error };
      this.#pending.set(clientId, pending);
      this.#emit({ t: "pending", pending });
      // Where it cannot be kept, the client's own outbox has it.
      this.#cache.keepPending(pending).catch(() => undefined);
    };
    keep("");
    handle.sent.then(
      ({ conversationId, seq }) => {
        this.#pending.delete(clientId);
        this.#emit({ t: "sent", clientId, conversationId, seq });
        this.#cache.dropPending(clientId).catch(() => undefined);
      },
      (error: unknown) => keep(reasonOf(error)),
    );
  }
}

/** 16 bytes of chance, as they are spelt. */
export const newClientId = (): string => toBase64Url(platformRandom.bytes(16));

/** For people: no code before it. */
export function reasonOf(error: unknown): string {
  if (error instanceof ConnectError) return error.rawMessage;
  return error instanceof Error ? error.message : String(error);
}

function connectionView(connection: Connection): ConnectionView {
  switch (connection.t) {
    case "idle":
    case "connecting":
    case "greeting":
      return { t: "connecting" };
    case "live":
      return { t: "live" };
    case "waiting":
      return { t: "waiting", delayMs: connection.delayMs, reason: connection.why.reason };
    case "stopped": {
      const { code, reason } = connection.why;
      return { t: "stopped", reason, signedOut: code === unauthenticatedCode };
    }
  }
}
