/** The client of an app: one device of one user. It wires the parts together; each part decides its own matters. */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  ConversationDeltaSchema,
  type HistoryResponse,
  type ListMembersResponse,
  type Pushed,
} from "../proto/gen/parley/v1/chat_pb.ts";
import type { ServerFrame } from "../proto/gen/parley/v1/frame_pb.ts";
import type {
  Attachment,
  Presence,
  Record as LogRecord,
} from "../proto/gen/parley/v1/record_pb.ts";
import { Calls, stoppedError } from "./calls.ts";
import type { ClientEvents, ConversationView } from "./client-events.ts";
import { closing, type Connection } from "./connection.ts";
import { Cursors } from "./cursors.ts";
import { Dialer } from "./dialer.ts";
import { Events } from "./events.ts";
import { Inbox } from "./inbox.ts";
import { decodeKept, deviceKey, encodeText, transportKey, userKey } from "./keeping.ts";
import { fetchMedia, uploadMedia } from "./media.ts";
import { settingsOf, type ClientOptions, type Settings } from "./options.ts";
import type { Receipt } from "./receipts.ts";
import { Requests } from "./requests.ts";
import { createGroup, history, listMembers, updateGroup } from "./rpc.ts";
import { Sender } from "./sender.ts";
import type { ContentInput, SendHandle, SendName, SendTarget } from "./sender.ts";
import { Keeper } from "./store.ts";
import { ScopedClock, toBase64Url } from "./surroundings.ts";
import { Syncer } from "./syncer.ts";
import { Typing } from "./typing.ts";
import { Watching } from "./watching.ts";

export class ParleyClient {
  readonly #settings: Settings;
  readonly #clock: ScopedClock;
  readonly #events = new Events<ClientEvents>();
  readonly #requests: Requests;
  readonly #calls: Calls;
  readonly #keeper: Keeper;
  readonly #cursors: Cursors;
  readonly #inbox: Inbox;
  readonly #syncer: Syncer;
  readonly #sender: Sender;
  readonly #dialer: Dialer;
  readonly #watching: Watching;
  readonly #typing: Typing;
  #userId = "";
  #deviceId = "";
  #loading: Promise<void> | undefined;
  #loaded = false;
  #closed = false;

  /** Throws a TypeError that names every option that is wrong. */
  constructor(options: ClientOptions) {
    const settings = settingsOf(options);
    const { random, limits } = settings;
    const events = this.#events;
    const failed = (during: string) => (error: unknown) => events.emit("error", { during, error });
    const clock = new ScopedClock(settings.clock);
    const again = (why: string): void => this.#dialer.again(why);
    const requests = new Requests(clock, limits.answerMs, (silenceMs) =>
      again(`the server said nothing for ${silenceMs} ms while an answer was due`),
    );
    const calls = new Calls(requests, clock, random, limits);
    const keeper = new Keeper(settings.store, clock, limits.keepMs, failed("keeping"));
    const me = (): string => this.#userId;
    const live = (): boolean => requests.live;
    this.#settings = settings;
    this.#clock = clock;
    this.#requests = requests;
    this.#calls = calls;
    this.#keeper = keeper;
    this.#watching = new Watching(calls, (presence) => events.emit("presence", presence));
    this.#typing = new Typing(requests, clock, limits.typingMs);
    this.#cursors = new Cursors(requests, clock, random, {
      changed: (conversation) => this.#inbox.told(conversation),
      failed: failed("moving a cursor"),
    });
    const parts = { settings, clock, events, calls, keeper, live };
    this.#inbox = new Inbox({
      ...parts,
      cursors: this.#cursors,
      me,
      underWay: (conversation) => this.#sender.underWay(conversation),
      unknown: () => this.#syncer.soon(),
    });
    this.#syncer = new Syncer({ ...parts, inbox: this.#inbox, again });
    this.#sender = new Sender({ requests, keeper, clock, random }, limits, {
      me,
      headOf: (conversation) => this.#inbox.headOf(conversation),
      ordered: () => this.#dialer.ordered,
      status: (event) => events.emit("status", event),
      sent: (request, message) => this.#inbox.sent(request, message),
    });
    this.#dialer = new Dialer(settings, clock, {
      changed: (now, before) => this.#changed(now, before),
      frame: (frame) => this.#frame(frame),
      syncToken: () => this.#syncer.token,
      deviceId: () => this.#deviceId,
    });
  }

  /** Calls `listener` at every such event, until the returned function is called. */
  on<Name extends keyof ClientEvents>(
    name: Name,
    listener: (event: ClientEvents[Name]) => void,
  ): () => void {
    return this.#events.on(name, listener);
  }

  /** Connects, and stays connected; at once where it was waiting to, and again where it had stopped. */
  connect(): void {
    if (this.#closed)
      throw new ConnectError("the client is closed: make another one", Code.Canceled);
    this.#loading ??= this.#load();
    if (this.#loaded) this.#dialer.start();
    else {
      void this.#loading.then(() => {
        if (this.#loaded && !this.#closed) this.#dialer.start();
      });
    }
  }

  /** Resolves once all that was committed before is known; rejects where the connection stops for good. */
  ready(): Promise<void> {
    const { connection } = this;
    if (this.#syncer.synced) return Promise.resolve();
    if (connection.t === "stopped") return Promise.reject(stoppedError(connection.why.reason));
    return new Promise((resolve, reject) => {
      const end = (): void => {
        stopSynced();
        stopConnection();
      };
      const stopSynced = this.on("synced", () => {
        end();
        resolve();
      });
      const stopConnection = this.on("connection", (state) => {
        if (state.t !== "stopped") return;
        end();
        reject(stoppedError(state.why.reason));
      });
    });
  }

  /** Goes offline until `connect` is called again. What is unsent waits. */
  disconnect(): void {
    this.#dialer.stop(closing(1000, "disconnected by the app"));
  }

  /** Ends for good: keeps what is to be kept, ends calls under way. Unsent messages wait in the store. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#dialer.stop(closing(1000, "closed by the app"));
    this.#calls.close(new ConnectError("the client was closed", Code.Canceled));
    await this.#loading;
    await this.#keeper.close();
    this.#clock.end();
  }

  get connection(): Connection {
    return this.#dialer.state;
  }

  /** Empty until the first connection told it, or the store. */
  get userId(): string {
    return this.#userId;
  }

  conversations(): ConversationView[] {
    return this.#inbox.views();
  }

  conversation(id: string): ConversationView | undefined {
    return this.#inbox.view(id);
  }

  /** The newest records that are kept in memory, oldest first; `history` has all. */
  records(conversation: string): readonly LogRecord[] {
    return this.#inbox.records(conversation);
  }

  /** How far one of the caller's own messages has come. */
  receipt(conversation: string, seq: number): Receipt | undefined {
    return this.#inbox.receipt(conversation, seq);
  }

  /**
   * Sends, in the order of the calls for each conversation, whether connected or not. Throws a ConnectError where the
   * content cannot be sent or the outbox is full. `name`: under an id of the app's own; one that is under way is not sent twice.
   */
  send(to: SendTarget, content: ContentInput, name?: SendName): SendHandle {
    if (this.#closed)
      throw new ConnectError("the client is closed: make another one", Code.Canceled);
    return this.#sender.send(to, content, name);
  }

  /** What is not sent yet, in order, the store's included. */
  pending(): SendHandle[] {
    return this.#sender.pending();
  }

  /** The user has seen all up to `seq`, or all that was handed to the app. */
  markRead(conversation: string, seq?: number): void {
    this.#inbox.markRead(conversation, seq);
  }

  history(
    conversationId: string,
    page: { afterSeq?: number; beforeSeq?: number; limit?: number } = {},
  ): Promise<HistoryResponse> {
    return history(this.#calls, { conversationId, ...page }, this.#inbox);
  }

  /** A page of the members with their cursors. */
  async listMembers(
    conversationId: string,
    page: { pageToken?: string; limit?: number } = {},
  ): Promise<ListMembersResponse> {
    const members = await listMembers(this.#calls, { conversationId, ...page });
    for (const cursor of members.members) this.#inbox.cursor(cursor);
    return members;
  }

  async createGroup(title: string, memberIds: readonly string[]): Promise<ConversationView> {
    const clientId = this.#settings.random.bytes(16);
    const request = { clientId, title, memberIds: [...memberIds] };
    const { conversation } = await createGroup(this.#calls, request);
    if (conversation) {
      this.#inbox.delta(create(ConversationDeltaSchema, { conversation }), false);
    }
    const view = this.#inbox.view(conversation?.conversationId ?? "");
    if (view === undefined) throw new ConnectError("the answer has no group", Code.Internal);
    return view;
  }

  /** Adds and removes members, renames. Gives the change's seq. */
  async updateGroup(
    conversationId: string,
    change: { add?: readonly string[]; remove?: readonly string[]; title?: string },
  ): Promise<number> {
    const { seq } = await updateGroup(this.#calls, {
      conversationId,
      clientId: this.#settings.random.bytes(16),
      knownHeadSeq: this.#inbox.headOf(conversationId),
      addMemberIds: [...(change.add ?? [])],
      removeMemberIds: [...(change.remove ?? [])],
      ...(change.title === undefined ? {} : { title: change.title }),
    });
    this.#inbox.reached(conversationId, seq);
    return seq;
  }

  leaveGroup(conversationId: string): Promise<number> {
    return this.updateGroup(conversationId, { remove: [this.#userId] });
  }

  /** Uploads an image to a conversation; what it gives goes into a message's content. Not tried again by itself. */
  uploadMedia(
    conversation: string,
    bytes: Uint8Array<ArrayBuffer> | Blob,
    fileName = "",
  ): Promise<Attachment> {
    return uploadMedia(this.#settings, conversation, bytes, fileName);
  }

  /** An attachment's bytes, as a response to read from. */
  fetchMedia(conversation: string, mediaId: string): Promise<Response> {
    return fetchMedia(this.#settings, conversation, mediaId);
  }

  /** Watches these users and nobody else, over resumes too; gives how they are now. Over long polls nothing is pushed. */
  watchPresence(userIds: readonly string[]): Promise<Presence[]> {
    return this.#watching.watch(userIds);
  }

  /** The last that was heard of a watched user. */
  presence(userId: string): Presence | undefined {
    return this.#watching.of(userId);
  }

  /** Tells the others that the user is typing: at most once in 3 seconds, and not at all while offline. */
  setTyping(conversationId: string): void {
    this.#typing.tell(conversationId);
  }

  /** Asks what changed. Not needed: the client does so by itself. */
  sync(): Promise<void> {
    return this.#syncer.resync("the app asked");
  }

  async #load(): Promise<void> {
    try {
      const kept = decodeKept(await this.#settings.store.load());
      const madeUp = kept.deviceId || toBase64Url(this.#settings.random.bytes(16));
      this.#deviceId = this.#settings.deviceId ?? madeUp;
      this.#userId = kept.userId;
      if (kept.deviceId !== this.#deviceId) {
        this.#keeper.put(deviceKey, () => encodeText(this.#deviceId), true);
      }
      this.#dialer.prefer(kept.transport);
      this.#syncer.restore(kept);
      this.#inbox.restore(kept.conversations);
      this.#sender.restore(kept.sends);
      this.#loaded = true;
    } catch (error) {
      this.#loading = undefined;
      this.#events.emit("error", { during: "loading", error });
      this.#dialer.stop(closing(0, `the store cannot be read: ${String(error)}`));
    }
  }

  #changed(now: Connection, before: Connection): void {
    if (before.t === "live") this.#down();
    if (now.t === "live") {
      const { userId } = now;
      if (this.#userId !== "" && userId !== "" && userId !== this.#userId) {
        const why = `the store is ${this.#userId}'s, the token is ${userId}'s: each needs its own`;
        this.#dialer.stop(closing(0, why));
        return;
      }
      this.#up(userId, now.trail.transport);
    }
    this.#events.emit("connection", now);
  }

  #up(userId: string, transport: string): void {
    this.#keeper.put(transportKey, () => encodeText(transport));
    if (userId !== "" && userId !== this.#userId) {
      this.#userId = userId;
      this.#keeper.put(userKey, () => encodeText(userId), true);
    }
    this.#requests.up((frames) => this.#dialer.send(frames));
    this.#calls.up();
    this.#sender.up();
    this.#cursors.up();
    this.#inbox.up();
    this.#watching.up().catch((error: unknown) => {
      if (this.#requests.live) this.#events.emit("error", { during: "watching", error });
    });
  }

  #down(): void {
    this.#requests.down();
    this.#calls.down();
    this.#sender.down();
    this.#cursors.down();
    this.#syncer.down();
  }

  #frame(heard: ServerFrame): void {
    const { frame } = heard;
    if (this.#requests.answer(heard)) return;
    switch (frame.case) {
      case "sync":
        this.#syncer.take(frame.value);
        return;
      case "pushed":
        this.#pushed(frame.value);
        return;
      case "heartbeat": {
        this.#requests.tell({
          case: "heartbeatReply",
          value: { $typeName: "parley.v1.HeartbeatReply" },
        });
        const { headSum } = frame.value;
        if (headSum !== undefined) this.#syncer.headSum(Number(headSum));
        return;
      }
      default:
    }
  }

  #pushed(pushed: Pushed): void {
    this.#inbox.pushed(pushed);
    for (const presence of pushed.presences) this.#watching.heard(presence);
    for (const typing of pushed.typings) this.#events.emit("typing", typing);
    if (pushed.resync) {
      void this.#syncer.resync("the server says that something may have been missed");
    }
    this.#syncer.pushed(pushed.records.length);
  }
}
