/**
 * The open conversation: a window of its log that grows at both ends. A hole between two entries is to be seen as such; it is filled when
 * the reader asks for it.
 */
import { computed, signal } from "@preact/signals";
import { withErasure } from "../erased.ts";
import type { Entry, ErasureBody, HistoryWindow, MemberCursor } from "../session.ts";
import type { Chat } from "./chat.ts";

const pageMax = 100;
/** More unread than this, and the conversation opens where reading ended, not at its newest. */
const unreadAtOnceMax = 80;
const contextMax = 20;

export class Room {
  readonly id: string;
  readonly #chat: Chat;
  /** By seq. */
  readonly entries = signal<readonly Entry[]>([]);
  /** Whether the window reaches the newest entry. */
  readonly atNewest = signal(true);
  readonly loading = signal<"none" | "first" | "older" | "newer">("none");
  readonly failed = signal("");
  /** Entries after this one were unread when the reader came; 0: no divider. */
  readonly dividerSeq = signal(0);
  /** The entry to bring into view next; a reader's wish, taken once. */
  readonly wish = signal<{ readonly seq: number; readonly flash: boolean } | undefined>(undefined);
  readonly replyTo = signal<Entry | undefined>(undefined);
  /** What was told to be erased since the conversation was opened. */
  readonly erasures = signal<readonly ErasureBody[]>([]);
  readonly members = signal<ReadonlyMap<string, MemberCursor> | undefined>(undefined);
  /** Seqs that the server has no more: holes that stay. */
  readonly lost = signal<ReadonlySet<number>>(new Set());
  readonly view = computed(() => this.#chat.conversations.value.get(this.id));
  readonly memberIds = computed(() => [...(this.members.value?.keys() ?? [])]);
  readonly pending = computed(() => {
    const { me, pending } = this.#chat;
    if (pending.value.size === 0) return [];
    const shown = new Set(this.entries.value.slice(-pageMax).map(({ clientId }) => clientId));
    return [...pending.value.values()].filter(({ to, clientId }) => {
      const id = "conversation" in to ? to.conversation : directId(me.value, to.user);
      return id === this.id && !shown.has(clientId);
    });
  });
  #tookSeq = 0;

  constructor(chat: Chat, id: string) {
    this.#chat = chat;
    this.id = id;
    const { view } = this;
    const known = view.peek();
    if (known !== undefined && known.unreadCount > 0) this.dividerSeq.value = known.readSeq;
    if (known !== undefined && known.unreadCount > unreadAtOnceMax)
      void this.#openAt(known.readSeq);
    else void this.#openNewest();
    void this.loadMembers();
  }

  /** The other side began anew: what is shown stays, what came meanwhile is a page away. */
  restart(): void {
    if (this.atNewest.peek()) void this.#openNewest();
    void this.loadMembers();
  }

  add(entry: Entry): void {
    if (entry.body.t === "members" && entry.body.added.length + entry.body.removed.length > 0) {
      void this.loadMembers();
    }
    if (entry.body.t === "message" && this.members.peek() !== undefined) {
      const { senderId: userId, seq } = entry;
      this.cursor(this.id, { userId, deliveredSeq: seq, readSeq: seq });
    }
    const { body } = entry;
    if (body.t === "erasure") this.#erase(body);
    if (!this.atNewest.peek()) return;
    this.entries.value = merged(this.entries.peek(), [entry]);
  }

  #erase(body: ErasureBody): void {
    this.erasures.value = [...this.erasures.peek(), body];
    this.entries.value = withErasure(this.entries.peek(), body);
    const answered = this.replyTo.peek();
    if (answered !== undefined && withErasure([answered], body)[0] !== answered)
      this.replyTo.value = undefined;
  }

  cursor(conversationId: string, cursor: MemberCursor): void {
    const members = this.members.peek();
    const known = members?.get(cursor.userId);
    if (conversationId !== this.id || members === undefined || known === undefined) return;
    const next = {
      userId: cursor.userId,
      deliveredSeq: Math.max(known.deliveredSeq, cursor.deliveredSeq, cursor.readSeq),
      readSeq: Math.max(known.readSeq, cursor.readSeq),
    };
    this.members.value = new Map(members).set(cursor.userId, next);
  }

  async loadMembers(): Promise<void> {
    const view = this.view.peek();
    if (view === undefined || view.left) return;
    try {
      const members = await this.#chat.session.members(this.id);
      this.members.value = new Map(members.map((member) => [member.userId, member]));
      if (this.#chat.room.peek() === this) this.#chat.watch();
    } catch {
      // Shown without; the next snapshot or change asks again.
    }
  }

  /** There are entries above the window. */
  get hasOlder(): boolean {
    const first = this.entries.value[0]?.seq;
    const floor = Math.max(1, this.view.value?.floorSeq ?? 1);
    return first !== undefined && first > floor;
  }

  async loadOlder(): Promise<void> {
    const first = this.entries.peek()[0];
    if (first === undefined || !this.hasOlder) return;
    await this.#load("older", { beforeSeq: first.seq, limit: pageMax });
  }

  async loadNewer(): Promise<void> {
    const last = this.entries.peek().at(-1);
    if (last === undefined || this.atNewest.peek()) return;
    await this.#load("newer", { afterSeq: last.seq, limit: pageMax });
  }

  /** Fills a hole, or learns that it stays. */
  async fill(from: number, to: number): Promise<void> {
    const answered = await this.#load("newer", {
      afterSeq: from - 1,
      beforeSeq: to + 1,
      limit: pageMax,
    });
    if (answered === 0) this.lost.value = new Set(this.lost.peek()).add(to);
  }

  async jumpToNewest(): Promise<void> {
    if (!this.atNewest.peek()) {
      this.entries.value = [];
      await this.#openNewest();
    }
    const last = this.entries.peek().at(-1);
    if (last !== undefined) this.wish.value = { seq: last.seq, flash: false };
  }

  async jumpTo(seq: number): Promise<void> {
    const has = this.entries.peek().some((entry) => entry.seq === seq);
    if (!has) await this.#openAt(seq);
    this.wish.value = { seq, flash: true };
  }

  /** The reader saw all up to `seq`. */
  seen(seq: number): void {
    const view = this.view.peek();
    if (view === undefined || view.left || seq <= Math.max(this.#tookSeq, view.readSeq)) return;
    this.#tookSeq = seq;
    this.#chat.session.markRead(this.id, seq);
  }

  async #openNewest(): Promise<void> {
    const newest = this.#chat.newestOf(this.id);
    this.atNewest.value = true;
    const known = this.entries.peek();
    this.entries.value = merged(known, newest);
    const reach = newest.length + known.length;
    if (this.view.peek() === undefined || (reach >= pageMax / 2 && known.length === 0)) return;
    await this.#load("first", { limit: pageMax });
  }

  async #openAt(seq: number): Promise<void> {
    this.atNewest.value = false;
    this.entries.value = [];
    await this.#load("first", { afterSeq: Math.max(0, seq - contextMax - 1), limit: pageMax });
    this.wish.value = { seq, flash: false };
  }

  /** Gives how many entries came, or -1 where none could be asked for. */
  async #load(what: "first" | "older" | "newer", window: HistoryWindow): Promise<number> {
    if (this.loading.peek() !== "none" && what !== "first") return -1;
    this.loading.value = what;
    this.failed.value = "";
    try {
      const page = await this.#chat.session.history(this.id, window);
      this.entries.value = merged(this.entries.peek(), page.entries);
      const last = this.entries.peek().at(-1)?.seq ?? 0;
      if (!this.atNewest.peek() && last >= page.headSeq) this.atNewest.value = true;
      return page.entries.length;
    } catch (error) {
      this.failed.value = error instanceof Error ? error.message : String(error);
      return -1;
    } finally {
      this.loading.value = "none";
    }
  }
}

/** Both in order of seq, each seq once. The common cases, at an end, cost one copy. */
export function merged(known: readonly Entry[], more: readonly Entry[]): readonly Entry[] {
  const [first, last] = [more[0], more.at(-1)];
  if (first === undefined || last === undefined) return known;
  if (first.seq > (known.at(-1)?.seq ?? 0)) return [...known, ...more];
  if (last.seq < (known[0]?.seq ?? 0)) return [...more, ...known];
  const all = new Map(known.map((entry) => [entry.seq, entry]));
  for (const entry of more) if (!all.has(entry.seq)) all.set(entry.seq, entry);
  return [...all.values()].sort((a, b) => a.seq - b.seq);
}

export function directId(one: string, other: string): string {
  return one < other ? `d:${one}:${other}` : `d:${other}:${one}`;
}
