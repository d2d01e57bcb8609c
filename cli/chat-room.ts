/** A chat in a terminal: keeps the state that is drawn in step with the SDK, and does what the user asks. Knows no terminal. */
import { Availability, directConversation } from "../client/index.ts";
import type { Attachment, Presence, StatusEvent } from "../client/index.ts";
import { type ChatCommand, commandHelp, parseCommand } from "./chat-commands.ts";
import { type Key, edit, emptyEditor, submit, textOf } from "./chat-editor.ts";
import { memberLines } from "./chat-members.ts";
import { type ChatSdk, linkOf, messageOf } from "./chat-sdk.ts";
import { Sent } from "./chat-sent.ts";
import {
  type ChatState,
  type OpenConversation,
  type Seen,
  emptyState,
  newestHole,
  openConversation,
  titleOf,
  withRecords,
} from "./chat-state.ts";

export interface RoomParts {
  readonly sdk: ChatSdk;
  readonly me: string;
  now(): number;
  /** The state is another one. */
  changed(): void;
  upload(file: string, conversationId: string): Promise<Attachment>;
  quit(): void;
}

const typingMs = 5_000;
const pageRecords = 50;
const watchedMax = 1_000;

export class ChatRoom {
  readonly #parts: RoomParts;
  #state: ChatState;
  readonly #sent = new Sent();
  #synced = false;
  /** The open conversation's unread line is known, and its older records were asked for. */
  #settled = false;
  #watched = "";

  constructor(parts: RoomParts) {
    this.#parts = parts;
    this.#state = emptyState(parts.me);
    this.#listen();
  }

  get state(): ChatState {
    return this.#state;
  }

  /** Shows a conversation; undefined: the list. */
  show(id: string | undefined): void {
    if (id !== this.#state.open?.id) {
      const open = id === undefined ? undefined : openConversation(id, this.#state.me);
      this.#set({ open: open && withRecords(open, this.#parts.sdk.records(open.id)), scroll: 0 });
      this.#settled = false;
      void this.#loadMembers();
    }
    this.#set({ notice: [] });
    this.#refresh();
  }

  showUser(user: string): void {
    const { me } = this.#state;
    this.show(directConversation(me, user));
  }

  /** A key was pressed; `pageRows` is how far a page scrolls. */
  key(characters: string | undefined, key: Key, pageRows: number): void {
    const { editor, open, scroll } = this.#state;
    const text = textOf(editor);
    if (key.ctrl && (key.name === "c" || (key.name === "d" && text === "")))
      return this.#parts.quit();
    if (key.name === "pageup") return this.#scrollBy(pageRows);
    if (key.name === "pagedown") return this.scrollTo(scroll - pageRows);
    if (key.name === "escape") return this.#escape();
    const plain = !key.ctrl && !key.meta && !editor.pasting;
    if (open === undefined && text === "" && plain && (key.name === "up" || key.name === "down")) {
      return this.#select(key.name === "up" ? -1 : 1);
    }
    if (key.name === "return" && plain) return this.#submit(text);
    const edited = edit(editor, characters, key);
    if (edited === undefined) return;
    this.#set({ editor: edited });
    const now = textOf(edited);
    if (open?.view !== undefined && now !== text && now !== "" && !now.startsWith("/")) {
      this.#parts.sdk.setTyping(open.id);
    }
  }

  /** Drawing found that there are no more rows than this. */
  scrollTo(rows: number): void {
    this.#set({ scroll: Math.max(0, rows) });
    if (rows <= 0) this.#refresh();
  }

  #scrollBy(rows: number): void {
    this.#set({ scroll: this.#state.scroll + rows });
    const { open, scroll } = this.#state;
    // Near the top of what is loaded: fetch more before it is reached.
    if (open !== undefined && scroll > open.records.length - rows) this.#moreQuietly();
  }

  #escape(): void {
    if (this.#state.notice.length > 0) this.#set({ notice: [] });
    else if (textOf(this.#state.editor) !== "")
      this.#set({
        editor: {
          ...emptyEditor,
          past: this.#state.editor.past,
          at: this.#state.editor.past.length,
        },
      });
    else if (this.#state.open !== undefined) this.show(undefined);
  }

  #select(by: number): void {
    const last = this.#state.conversations.length - 1;
    this.#set({ selected: Math.max(0, Math.min(last, this.#state.selected + by)) });
  }

  #submit(text: string): void {
    this.#set({ editor: submit(this.#state.editor), notice: [] });
    if (text.trim() === "") {
      const chosen = this.#state.conversations[this.#state.selected];
      if (this.#state.open === undefined && chosen !== undefined) this.show(chosen.id);
      return;
    }
    this.#do(parseCommand(text.trimEnd())).catch((error: unknown) => this.#say(messageOf(error)));
  }

  async #do(command: ChatCommand): Promise<void> {
    const { sdk } = this.#parts;
    switch (command.t) {
      case "send":
        return this.#send(command.text);
      case "help":
        return this.#say(...commandHelp);
      case "list":
        return this.show(undefined);
      case "with":
        return this.showUser(command.user);
      case "open":
        return this.#openNamed(command.id);
      case "group":
        return this.show((await sdk.createGroup(command.title, command.users)).id);
      case "add":
        return void (await sdk.updateGroup(this.#group(), { add: [command.user] }));
      case "remove":
        return void (await sdk.updateGroup(this.#group(), { remove: [command.user] }));
      case "rename":
        return void (await sdk.updateGroup(this.#group(), { title: command.title }));
      case "leave":
        await sdk.leaveGroup(this.#group());
        return this.show(undefined);
      case "members": {
        const { id } = this.#opened();
        return this.#say(...(await memberLines(sdk, id, this.#state)));
      }
      case "image":
        return this.#image(command.file);
      case "more":
        return this.#more(false);
      case "quit":
        return this.#parts.quit();
      case "wrong":
        return this.#say(command.why);
    }
  }

  #opened(): OpenConversation {
    if (this.#state.open === undefined)
      throw new Error("open a conversation first: /with USER, or choose one and press Enter");
    return this.#state.open;
  }

  #group(): string {
    const { id, peerId } = this.#opened();
    if (peerId !== undefined) throw new Error("that is for groups: /group TITLE USER… makes one");
    return id;
  }

  #openNamed(name: string): void {
    const numbered = /^\d+$/.test(name) ? this.#state.conversations[Number(name) - 1] : undefined;
    const found =
      numbered ?? this.#state.conversations.find(({ id, title }) => id === name || title === name);
    if (found === undefined)
      throw new Error(
        `there is no conversation ${name}: /list shows them all, /with USER begins one`,
      );
    this.show(found.id);
  }

  #send(text: string, attachments: readonly Attachment[] = [], to = this.#opened()): void {
    // A direct conversation begins with its first message, to the user.
    const target =
      to.view === undefined && to.peerId !== undefined
        ? { user: to.peerId }
        : { conversation: to.id };
    const handle = this.#parts.sdk.send(target, { text, attachments });
    this.#sent.add(to.id, handle);
    if (this.#state.open?.id === to.id) this.#open({ newAfterSeq: undefined });
    this.#set({ scroll: 0 });
    this.#refresh();
  }

  async #image(file: string): Promise<void> {
    const to = this.#opened();
    if (to.view === undefined)
      throw new Error("an image needs a conversation that exists: send a word first");
    this.#say(`uploading ${file}…`);
    const attachment = await this.#parts.upload(file, to.id);
    this.#set({ notice: [] });
    this.#send("", [attachment], to);
  }

  #moreQuietly(): void {
    this.#more(true).catch((error: unknown) => this.#say(messageOf(error)));
  }

  /** Loads what lies before the newest hole. */
  async #more(quiet: boolean): Promise<void> {
    const open = this.#opened();
    if (open.loading) return;
    const hole = newestHole(open);
    if (hole === undefined) {
      if (!quiet) this.#say("there is nothing older");
      return;
    }
    this.#open({ loading: true });
    try {
      const page = await this.#parts.sdk.history(open.id, {
        beforeSeq: hole.to + 1,
        limit: pageRecords,
      });
      const now = this.#state.open;
      if (now?.id !== open.id) return;
      const first = page.records[0]?.seq;
      // Nothing there, or nothing before the floor that the server has now.
      const lost =
        first === undefined
          ? [hole]
          : page.floorSeq > hole.from && first <= page.floorSeq
            ? [{ from: hole.from, to: first - 1 }]
            : [];
      this.#open({ ...withRecords(now, page.records), lost: [...now.lost, ...lost] });
    } finally {
      if (this.#state.open?.id === open.id) this.#open({ loading: false });
      this.#refresh();
    }
  }

  #listen(): void {
    const { sdk, now } = this.#parts;
    sdk.on("connection", (connection) => {
      if (connection.t !== "live") this.#synced = false;
      this.#watched = "";
      this.#set({ link: linkOf(connection, now()) });
      this.#refresh();
    });
    sdk.on("synced", () => {
      this.#synced = true;
      this.#refresh();
      void this.#loadMembers();
    });
    sdk.on("record", ({ conversationId, record }) => {
      const { open } = this.#state;
      if (open?.id !== conversationId) return;
      const typing = new Map(open.typing);
      typing.delete(record.senderId);
      this.#open({ ...withRecords(open, [record]), typing });
      if (record.body.case === "membership") void this.#loadMembers();
      this.#refresh();
    });
    sdk.on("conversation", () => this.#refresh());
    sdk.on("status", (event) => this.#status(event));
    sdk.on("presence", (presence) => this.#present([presence]));
    sdk.on("typing", ({ conversationId, userId }) => this.#typing(conversationId, userId));
    sdk.on("gap", ({ conversationId, from, to, more }) => {
      const { open } = this.#state;
      if (open?.id === conversationId && !more) this.#open({ lost: [...open.lost, { from, to }] });
    });
    sdk.on("error", ({ during, error }) => this.#say(`${during}: ${messageOf(error)}`));
  }

  #status(event: StatusEvent): void {
    if (!this.#sent.status(event) && event.status === "failed") {
      this.#say(`a message was not sent: ${messageOf(event.error)}`);
    }
    this.#refresh();
  }

  #typing(conversationId: string, userId: string): void {
    const { open } = this.#state;
    if (open?.id !== conversationId || userId === this.#state.me) return;
    this.#open({ typing: new Map(open.typing).set(userId, this.#parts.now() + typingMs) });
  }

  #present(presences: readonly Presence[]): void {
    const all = new Map<string, Seen>(this.#state.presences);
    for (const { userId, availability, lastSeenMs } of presences) {
      all.set(userId, {
        online: availability === Availability.ONLINE,
        lastSeenMs: Number(lastSeenMs),
      });
    }
    this.#set({ presences: all });
  }

  /** Takes over what the SDK knows now. */
  #refresh(): void {
    const { sdk } = this.#parts;
    const conversations = sdk
      .conversations()
      .filter(({ headSeq }) => headSeq > 0)
      .sort((one, other) => other.headTimeMs - one.headTimeMs || (one.id < other.id ? -1 : 1));
    this.#set({ conversations });
    const { open } = this.#state;
    if (open !== undefined) {
      const view = conversations.find(({ id }) => id === open.id);
      this.#open({ view, outgoing: this.#sent.outgoing(open.id, sdk.pending()) });
      if (this.#synced && view !== undefined) this.#settle();
    }
    this.#watch();
  }

  #settle(): void {
    const { open, scroll } = this.#state;
    const view = open?.view;
    if (open === undefined || view === undefined) return;
    if (!this.#settled) {
      this.#settled = true;
      this.#open({ newAfterSeq: view.unreadCount > 0 ? view.readSeq : undefined });
      if (open.records.length < pageRecords) this.#moreQuietly();
    }
    if (scroll === 0 && !view.left && view.readSeq < view.gotSeq) this.#parts.sdk.markRead(open.id);
  }

  async #loadMembers(): Promise<void> {
    const { open } = this.#state;
    if (open === undefined || open.peerId !== undefined || !this.#synced) return;
    try {
      const { members } = await this.#parts.sdk.listMembers(open.id, { limit: watchedMax });
      if (this.#state.open?.id !== open.id) return;
      this.#open({ members: members.map(({ userId }) => userId) });
      this.#watch();
    } catch (error) {
      this.#say(`members: ${messageOf(error)}`);
    }
  }

  /** Watches the open conversation's members and whoever the user talks to. */
  #watch(): void {
    if (!this.#synced) return;
    const { conversations, open, me } = this.#state;
    const peers = conversations.flatMap(({ peerId }) => peerId ?? []);
    const known =
      open?.peerId === undefined || open.view !== undefined
        ? [open?.peerId ?? me, ...(open?.members ?? [])]
        : [];
    const users = [...new Set([...known, ...peers])]
      .filter((user) => user !== me)
      .slice(0, watchedMax);
    const key = users.toSorted().join(" ");
    if (key === this.#watched) return;
    this.#watched = key;
    // How they are comes by events, in its order with later changes. Where it fails, it is asked again after a resume; until then
    // nobody is shown as online.
    this.#parts.sdk.watchPresence(users).catch(() => undefined);
  }

  #say(...lines: string[]): void {
    this.#set({ notice: lines });
  }

  #open(change: Partial<OpenConversation>): void {
    const { open } = this.#state;
    if (open !== undefined) this.#set({ open: { ...open, ...change } });
  }

  #set(change: Partial<ChatState>): void {
    this.#state = { ...this.#state, ...change };
    this.#parts.changed();
  }

  /** The open conversation's name, for the terminal's title. */
  get title(): string {
    const { open, me } = this.#state;
    return open === undefined ? `Parley: ${me}` : titleOf(open.view, open.id, me);
  }
}
