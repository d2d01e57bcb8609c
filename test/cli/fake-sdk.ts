/** A scripted SDK: tests say what the server would, and look at what was asked. */
import { type MessageInitShape, create } from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";
import type { ChatSdk } from "../../cli/chat-sdk.ts";
import { Events } from "../../client/events.ts";
import type {
  ClientEvents,
  Connection,
  ContentInput,
  ConversationView,
  SendHandle,
  SendTarget,
  SentMessage,
} from "../../client/index.ts";
import {
  HistoryResponseSchema,
  ListMembersResponseSchema,
} from "../../proto/gen/parley/v1/chat_pb.ts";
import {
  type Availability,
  ContentSchema,
  ErasureSchema,
  MembershipChangeSchema,
  PresenceSchema,
  type Record as LogRecord,
  RecordSchema,
} from "../../proto/gen/parley/v1/record_pb.ts";

export const noonMs = Date.UTC(2026, 10, 24, 12, 0);

const trail = {
  transport: "websocket",
  failures: 0,
  openFailures: 0,
  refused: false,
  url: "",
} as const;

export function message(
  conversationId: string,
  seq: number,
  senderId: string,
  content: string | MessageInitShape<typeof ContentSchema>,
  timeMs = noonMs + seq * 1_000,
): LogRecord {
  const parts = typeof content === "string" ? { text: content } : content;
  return create(RecordSchema, {
    conversationId,
    seq,
    senderId,
    timeMs: BigInt(timeMs),
    ordinal: seq,
    body: { case: "message", value: create(ContentSchema, parts) },
  });
}

export function change(
  conversationId: string,
  seq: number,
  senderId: string,
  parts: MessageInitShape<typeof MembershipChangeSchema>,
): LogRecord {
  return create(RecordSchema, {
    conversationId,
    seq,
    senderId,
    timeMs: BigInt(noonMs + seq * 1_000),
    body: { case: "membership", value: create(MembershipChangeSchema, parts) },
  });
}

export function erasure(
  conversationId: string,
  seq: number,
  ...ranges: (readonly [number, number])[]
): LogRecord {
  const value = create(ErasureSchema, {
    ranges: ranges.map(([firstSeq, lastSeq]) => ({ firstSeq, lastSeq })),
  });
  const timeMs = BigInt(noonMs + seq * 1_000);
  return create(RecordSchema, { conversationId, seq, timeMs, body: { case: "erasure", value } });
}

export function view(id: string, parts: Partial<ConversationView> = {}): ConversationView {
  const headSeq = parts.headSeq ?? 1;
  return {
    id,
    kind: id.startsWith("d:") ? "direct" : "group",
    title: "",
    peerId: id.startsWith("d:") ? id.split(":")[2] : undefined,
    headSeq,
    floorSeq: 1,
    gotSeq: headSeq,
    memberCount: 2,
    deliveredSeq: headSeq,
    readSeq: headSeq,
    unreadCount: 0,
    peersDeliveredSeq: 0,
    peersReadSeq: 0,
    headTimeMs: noonMs,
    left: false,
    ...parts,
  };
}

/** The id of the message that was sent as number `place`, from 1 on. */
export function clientIdOf(place: number): string {
  return Buffer.alloc(16, place).toString("base64url");
}

interface SentOne {
  readonly to: SendTarget;
  readonly text: string;
  readonly handle: SendHandle;
  succeed(message: SentMessage): void;
  fail(error: ConnectError): void;
}

export class FakeSdk implements ChatSdk {
  readonly #events = new Events<ClientEvents>();
  readonly views = new Map<string, ConversationView>();
  readonly kept = new Map<string, LogRecord[]>();
  /** All that the server has, for `history`. */
  readonly log = new Map<string, LogRecord[]>();
  readonly members = new Map<string, { userId: string; deliveredSeq: number; readSeq: number }[]>();
  readonly sent: SentOne[] = [];
  /** What else was asked, in order. */
  readonly asked: string[] = [];
  readonly online = new Map<string, Availability>();
  connection: Connection = { t: "idle", trail };
  refuse: Error | undefined;
  #ready: (() => void)[] = [];
  #isReady = false;

  on<Name extends keyof ClientEvents>(
    name: Name,
    listener: (event: ClientEvents[Name]) => void,
  ): () => void {
    return this.#events.on(name, listener);
  }

  emit<Name extends keyof ClientEvents>(name: Name, event: ClientEvents[Name]): void {
    this.#events.emit(name, event);
  }

  connect(): void {
    this.asked.push("connect");
  }

  /** Connected, and all that was before is known. */
  goLive(): void {
    this.become({ t: "live", trail, userId: "alice", sinceMs: 0 });
    this.#isReady = true;
    this.emit("synced", { conversations: this.views.size });
    for (const ready of this.#ready.splice(0)) ready();
  }

  stop(code: number, reason: string): void {
    const why = { code, reason, retryAfterMs: 0, fault: "none", url: "" } as const;
    this.become({ t: "stopped", trail, why });
  }

  wait(delayMs: number): void {
    const why = { code: 1006, reason: "gone", retryAfterMs: 0, fault: "none", url: "" } as const;
    this.become({ t: "waiting", trail, delayMs, why });
  }

  become(connection: Connection): void {
    this.connection = connection;
    this.emit("connection", connection);
  }

  ready(): Promise<void> {
    return this.#isReady ? Promise.resolve() : new Promise((resolve) => this.#ready.push(resolve));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  conversations(): ConversationView[] {
    return [...this.views.values()];
  }

  conversation(id: string): ConversationView | undefined {
    return this.views.get(id);
  }

  records(id: string): readonly LogRecord[] {
    return this.kept.get(id) ?? [];
  }

  /** A record arrives. */
  push(record: LogRecord, own = false): void {
    const { conversationId, seq } = record;
    const before = this.views.get(conversationId) ?? view(conversationId, { headSeq: 0 });
    this.views.set(conversationId, { ...before, headSeq: seq, gotSeq: seq });
    this.kept.set(conversationId, [...this.records(conversationId), record]);
    this.emit("record", { conversationId, record, own });
    this.emit("conversation", this.views.get(conversationId) ?? before);
  }

  send(to: SendTarget, input: ContentInput): SendHandle {
    if (this.refuse !== undefined) throw this.refuse;
    const parts = typeof input === "string" ? { text: input } : input;
    const content = create(ContentSchema, { text: parts.text ?? "" });
    content.attachments.push(...(parts.attachments ?? []));
    const clientId = clientIdOf(this.sent.length + 1);
    let settle: Pick<SentOne, "succeed" | "fail"> = { succeed: () => {}, fail: () => {} };
    const sent = new Promise<SentMessage>((succeed, fail) => {
      settle = { succeed, fail };
    });
    sent.catch(() => undefined);
    const handle: SendHandle = {
      clientId,
      content,
      status: "pending",
      conversationId: "conversation" in to ? to.conversation : undefined,
      seq: undefined,
      error: undefined,
      sent,
    };
    this.sent.push({ to, text: content.text, handle, ...settle });
    this.emit("status", { status: "pending", clientId });
    return handle;
  }

  /** The oldest unsent message is in the log now. */
  answer(conversationId: string, seq: number): void {
    const first = this.#waiting.shift();
    if (first === undefined) throw new Error("nothing is unsent");
    const { clientId, content } = first.handle;
    first.succeed({ clientId, conversationId, seq, timeMs: noonMs, duplicate: false });
    this.emit("status", {
      status: "sent",
      clientId,
      conversationId,
      seq,
      delivered: 0,
      read: 0,
      of: 1,
    });
    const record = message(conversationId, seq, "alice", content);
    this.push({ ...record, clientId: Buffer.from(clientId, "base64url") }, true);
  }

  /** The oldest unsent message is refused. */
  refuseOne(error: ConnectError): void {
    const first = this.#waiting.shift();
    first?.fail(error);
    this.emit("status", { status: "failed", clientId: first?.handle.clientId ?? "", error });
  }

  get #waiting(): { shift(): SentOne | undefined } {
    return { shift: () => this.sent[this.#answered++] };
  }

  #answered = 0;

  pending(): SendHandle[] {
    return this.sent.slice(this.#answered).map(({ handle }) => handle);
  }

  markRead(conversation: string): void {
    this.asked.push(`markRead ${conversation}`);
    const known = this.views.get(conversation);
    if (known) this.views.set(conversation, { ...known, readSeq: known.gotSeq, unreadCount: 0 });
  }

  history(
    id: string,
    page: { afterSeq?: number; beforeSeq?: number; limit?: number } = {},
  ): ReturnType<ChatSdk["history"]> {
    const { beforeSeq = Infinity, limit = 50 } = page;
    this.asked.push(`history ${id} before ${beforeSeq}`);
    const all = this.log.get(id) ?? [];
    const records = all.filter(({ seq }) => seq < beforeSeq).slice(-limit);
    const floorSeq = this.views.get(id)?.floorSeq ?? 1;
    return Promise.resolve(
      create(HistoryResponseSchema, { records, floorSeq, headSeq: all.length }),
    );
  }

  listMembers(id: string): ReturnType<ChatSdk["listMembers"]> {
    this.asked.push(`listMembers ${id}`);
    return Promise.resolve(
      create(ListMembersResponseSchema, { members: this.members.get(id) ?? [] }),
    );
  }

  createGroup(title: string, members: readonly string[]): Promise<ConversationView> {
    this.asked.push(`createGroup ${title}: ${members.join(" ")}`);
    const group = view("g:new", { title, memberCount: members.length + 1 });
    this.views.set(group.id, group);
    return Promise.resolve(group);
  }

  updateGroup(id: string, changes: object): Promise<number> {
    this.asked.push(`updateGroup ${id} ${JSON.stringify(changes)}`);
    return Promise.resolve(1);
  }

  leaveGroup(id: string): Promise<number> {
    this.asked.push(`leaveGroup ${id}`);
    return Promise.resolve(1);
  }

  watchPresence(users: readonly string[]): ReturnType<ChatSdk["watchPresence"]> {
    this.asked.push(`watchPresence ${users.join(" ")}`);
    const presences = users.flatMap((userId) => {
      const availability = this.online.get(userId);
      return availability === undefined ? [] : [create(PresenceSchema, { userId, availability })];
    });
    for (const presence of presences) this.emit("presence", presence);
    return Promise.resolve(presences);
  }

  setTyping(id: string): void {
    this.asked.push(`setTyping ${id}`);
  }
}
