/** What one signed-in user's page shows, as signals: kept in step with the session's events. */
import { withErasure } from "../erased.ts";
import { batch, computed, signal } from "@preact/signals";
import type {
  ConnectionView,
  ConversationView,
  Entry,
  Pending,
  PresenceView,
  SendTarget,
  Session,
  SessionEvent,
  Snapshot,
} from "../session.ts";
import { Draft } from "./draft.ts";
import { MediaCache } from "./media-cache.ts";
import { Room } from "./room.ts";
import { Typists } from "./typists.ts";

/** Of a conversation that is not open: enough to show it at once. */
const newestMax = 60;
const watchedMax = 500;

export class Chat {
  readonly session: Session;
  readonly me = signal("");
  readonly connection = signal<ConnectionView>({ t: "connecting" });
  readonly synced = signal(false);
  /** False until the first snapshot. */
  readonly loaded = signal(false);
  readonly conversations = signal<ReadonlyMap<string, ConversationView>>(new Map());
  /** The newest entry of each conversation that is at hand. */
  readonly previews = signal<ReadonlyMap<string, Entry>>(new Map());
  readonly pending = signal<ReadonlyMap<string, Pending>>(new Map());
  readonly presences = signal<ReadonlyMap<string, PresenceView>>(new Map());
  readonly typists = new Typists();
  readonly media: MediaCache;
  readonly room = signal<Room | undefined>(undefined);
  /** The latest activity first. */
  readonly sorted = computed(() =>
    [...this.conversations.value.values()].sort((a, b) => activityMs(b) - activityMs(a)),
  );
  readonly unread = computed(() =>
    this.sorted.value.reduce((sum, { unreadCount, left }) => sum + (left ? 0 : unreadCount), 0),
  );
  readonly #newest = new Map<string, Entry[]>();
  readonly #asked = new Set<string>();
  readonly #drafts = new Map<string, Draft>();
  readonly #heard = new Set<(event: SessionEvent) => void>();
  readonly #stop: () => void;
  #watched = "";

  constructor(session: Session) {
    this.session = session;
    this.media = new MediaCache(session);
    this.#stop = session.subscribe((event) => batch(() => this.#take(event)));
  }

  /** Events after they were taken in. */
  on(listener: (event: SessionEvent) => void): () => void {
    this.#heard.add(listener);
    return () => void this.#heard.delete(listener);
  }

  async close(): Promise<void> {
    this.#stop();
    this.typists.end();
    await this.session.close();
  }

  /** The conversation that is shown; undefined: none. */
  open(id: string | undefined): void {
    if (this.room.peek()?.id === id) return;
    this.room.value = id === undefined ? undefined : new Room(this, id);
    this.watch();
  }

  newestOf(id: string): readonly Entry[] {
    return this.#newest.get(id) ?? [];
  }

  draftOf(id: string): Draft {
    const draft = this.#drafts.get(id) ?? new Draft(this.session, this.media, id);
    this.#drafts.set(id, draft);
    return draft;
  }

  /** Where a message to this conversation goes: a direct one begins with its first message. */
  target(id: string): SendTarget {
    const peer = this.conversations.peek().has(id) ? undefined : peerOf(id, this.me.peek());
    return peer === undefined ? { conversation: id } : { user: peer };
  }

  /** Fetches the newest entry of a conversation where none is at hand. */
  needPreview(id: string): void {
    const known = this.previews.peek().has(id) || this.#asked.has(id);
    if (known || !this.synced.peek()) return;
    this.#asked.add(id);
    this.session.history(id, { limit: 1 }).then(
      ({ entries }) => {
        const last = entries.at(-1);
        if (last !== undefined) this.#preview(last);
      },
      () => this.#asked.delete(id),
    );
  }

  /** Whose presence the page shows: the others of direct conversations, and the open conversation's members. */
  watch(): void {
    const users = new Set<string>(this.room.peek()?.memberIds.peek() ?? []);
    for (const { peerId, left } of this.sorted.peek()) {
      if (peerId !== undefined && !left) users.add(peerId);
    }
    users.delete(this.me.peek());
    const asked = [...users].slice(0, watchedMax);
    const named = asked.toSorted().join(" ");
    if (named === this.#watched || !this.synced.peek()) return;
    this.#watched = named;
    this.session.watchPresence(asked).catch(() => {
      this.#watched = "";
    });
  }

  #take(event: SessionEvent): void {
    switch (event.t) {
      case "snapshot":
        this.#restart(event.snapshot);
        break;
      case "connection":
        this.connection.value = event.connection;
        break;
      case "synced":
        this.synced.value = true;
        this.watch();
        break;
      case "conversation":
        this.#conversation(event.conversation);
        break;
      case "entry":
        this.#entry(event.entry);
        break;
      case "gap":
        this.#newest.delete(event.conversationId);
        break;
      case "pending":
        this.pending.value = new Map(this.pending.value).set(event.pending.clientId, event.pending);
        break;
      case "sent":
      case "dropped":
        this.pending.value = without(this.pending.value, event.clientId);
        break;
      case "cursor":
        this.room.peek()?.cursor(event.conversationId, event.cursor);
        break;
      case "presence":
        this.presences.value = new Map(this.presences.value).set(
          event.presence.userId,
          event.presence,
        );
        break;
      case "typing":
        if (event.userId !== this.me.peek()) this.typists.add(event.conversationId, event.userId);
        break;
    }
    for (const listener of this.#heard) listener(event);
  }

  #restart(snapshot: Snapshot): void {
    this.me.value = snapshot.userId;
    this.connection.value = snapshot.connection;
    this.synced.value = snapshot.synced;
    this.conversations.value = new Map(snapshot.conversations.map((view) => [view.id, view]));
    this.pending.value = new Map(snapshot.pending.map((sending) => [sending.clientId, sending]));
    this.presences.value = new Map(snapshot.presences.map((known) => [known.userId, known]));
    this.loaded.value = true;
    this.#newest.clear();
    this.#asked.clear();
    this.previews.value = new Map();
    for (const [id, entries] of snapshot.newest) {
      this.#newest.set(id, entries.slice(-newestMax));
      const last = entries.at(-1);
      if (last !== undefined) this.#preview(last);
    }
    this.room.peek()?.restart();
    this.watch();
  }

  #conversation(view: ConversationView): void {
    const fresh = !this.conversations.peek().has(view.id);
    this.conversations.value = new Map(this.conversations.value).set(view.id, view);
    if (fresh) this.watch();
  }

  #entry(entry: Entry): void {
    const { conversationId } = entry;
    const newest = this.#newest.get(conversationId) ?? [];
    const last = newest.at(-1)?.seq;
    if (last !== undefined && entry.seq !== last + 1) newest.length = 0;
    newest.push(entry);
    if (newest.length > newestMax) newest.shift();
    const { body } = entry;
    this.#newest.set(
      conversationId,
      body.t === "erasure" ? [...withErasure(newest, body)] : newest,
    );
    this.#preview(entry);
    this.typists.remove(conversationId, entry.senderId);
    const room = this.room.peek();
    if (room?.id === conversationId) room.add(entry);
  }

  #preview(entry: Entry): void {
    const known = this.previews.peek().get(entry.conversationId);
    if (known !== undefined && known.seq >= entry.seq) return;
    this.previews.value = new Map(this.previews.value).set(entry.conversationId, entry);
  }
}

/** The other one of a direct conversation, from its name; undefined for a group. */
export function peerOf(id: string, me: string): string | undefined {
  if (!id.startsWith("d:")) return undefined;
  const users = id.split(":").slice(1);
  return users.find((user) => user !== me) ?? me;
}

function activityMs(view: ConversationView): number {
  return view.headTimeMs;
}

function without<Value>(map: ReadonlyMap<string, Value>, key: string): ReadonlyMap<string, Value> {
  if (!map.has(key)) return map;
  const next = new Map(map);
  next.delete(key);
  return next;
}
