/** A session whose connection is this tab's own: one SDK client in the page. */
import { ConnectError } from "@connectrpc/connect";
import { ParleyClient, type ClientStore, type Connection, type SendHandle } from "../../index.ts";
import { entryOf, messageBodyOf, presenceOf } from "./entries.ts";
import type {
  Account,
  Attachment,
  ConnectionView,
  ConversationView,
  Entry,
  HistoryPage,
  HistoryWindow,
  MemberCursor,
  MessageInput,
  Pending,
  SendTarget,
  Session,
  SessionEvent,
  Snapshot,
  UploadWatch,
} from "./session.ts";
import { uploadFile } from "./uploading.ts";

const membersMax = 1_000;

export class DirectSession implements Session {
  readonly #client: ParleyClient;
  readonly #account: Account;
  readonly #url: string;
  readonly #listeners = new Set<(event: SessionEvent) => void>();
  readonly #pending = new Map<string, Pending>();
  #synced = false;

  constructor(url: string, account: Account, store?: ClientStore) {
    this.#url = url;
    this.#account = account;
    this.#client = new ParleyClient({
      url,
      token: () => account.token(),
      recordsPerConversation: 30,
      ...(store === undefined ? {} : { store }),
    });
    this.#listen();
    this.#client.connect();
  }

  subscribe(listener: (event: SessionEvent) => void): () => void {
    this.#listeners.add(listener);
    queueMicrotask(() => {
      if (this.#listeners.has(listener)) listener({ t: "snapshot", snapshot: this.#snapshot() });
    });
    return () => void this.#listeners.delete(listener);
  }

  reconnect(): void {
    this.#client.connect();
  }

  send(to: SendTarget, message: MessageInput): Promise<string> {
    return plain(async () => {
      const handle = this.#client.send(to, message);
      this.#follow(handle, to, Date.now());
      return handle.clientId;
    });
  }

  async retry(clientId: string): Promise<void> {
    const failed = this.#pending.get(clientId);
    if (failed === undefined || failed.error === "") return;
    await this.drop(clientId);
    const { text, attachments, replyToSeq } = failed.body;
    await this.send(failed.to, { text, attachments, replyToSeq });
  }

  drop(clientId: string): Promise<void> {
    if ((this.#pending.get(clientId)?.error ?? "") !== "") {
      this.#pending.delete(clientId);
      this.#tell({ t: "dropped", clientId });
    }
    return Promise.resolve();
  }

  markRead(conversationId: string, seq: number): void {
    this.#client.markRead(conversationId, seq);
  }

  setTyping(conversationId: string): void {
    this.#client.setTyping(conversationId);
  }

  history(conversationId: string, window: HistoryWindow): Promise<HistoryPage> {
    return plain(async () => {
      const page = await this.#client.history(conversationId, window);
      return {
        entries: page.records.map(entryOf),
        headSeq: page.headSeq,
        floorSeq: page.floorSeq,
      };
    });
  }

  members(conversationId: string): Promise<readonly MemberCursor[]> {
    return plain(async () => {
      const { members } = await this.#client.listMembers(conversationId, { limit: membersMax });
      return members.map(({ userId, deliveredSeq, readSeq }) => ({
        userId,
        deliveredSeq,
        readSeq,
      }));
    });
  }

  createGroup(title: string, memberIds: readonly string[]): Promise<ConversationView> {
    return plain(() => this.#client.createGroup(title, memberIds));
  }

  updateGroup(
    conversationId: string,
    change: { add?: readonly string[]; remove?: readonly string[]; title?: string },
  ): Promise<void> {
    return plain(async () => void (await this.#client.updateGroup(conversationId, change)));
  }

  leaveGroup(conversationId: string): Promise<void> {
    return plain(async () => void (await this.#client.leaveGroup(conversationId)));
  }

  watchPresence(userIds: readonly string[]): Promise<void> {
    return plain(async () => void (await this.#client.watchPresence(userIds)));
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

  media(conversationId: string, mediaId: string): Promise<Blob> {
    return plain(async () => (await this.#client.fetchMedia(conversationId, mediaId)).blob());
  }

  async close(): Promise<void> {
    this.#listeners.clear();
    await this.#client.close();
  }

  #listen(): void {
    const client = this.#client;
    client.on("connection", (connection) => {
      if (connection.t !== "live") this.#synced = false;
      this.#tell({ t: "connection", connection: connectionView(connection) });
    });
    client.on("synced", () => {
      this.#synced = true;
      for (const handle of client.pending()) this.#restored(handle);
      this.#tell({ t: "synced" });
    });
    client.on("conversation", (conversation) => this.#tell({ t: "conversation", conversation }));
    client.on("record", ({ record }) => this.#tell({ t: "entry", entry: entryOf(record) }));
    client.on("gap", (gap) => this.#tell({ t: "gap", ...gap }));
    client.on("cursor", ({ conversationId, userId, deliveredSeq, readSeq }) =>
      this.#tell({ t: "cursor", conversationId, cursor: { userId, deliveredSeq, readSeq } }),
    );
    client.on("presence", (presence) =>
      this.#tell({ t: "presence", presence: presenceOf(presence) }),
    );
    client.on("typing", (typing) => this.#tell({ t: "typing", ...typing }));
  }

  #restored(handle: SendHandle): void {
    const { clientId, conversationId } = handle;
    if (this.#pending.has(clientId) || conversationId === undefined) return;
    this.#follow(handle, { conversation: conversationId }, 0);
  }

  #follow(handle: SendHandle, to: SendTarget, timeMs: number): void {
    const { clientId } = handle;
    const body = messageBodyOf(handle.content);
    const keep = (error: string): void => {
      const pending = { clientId, to, body, timeMs, error };
      this.#pending.set(clientId, pending);
      this.#tell({ t: "pending", pending });
    };
    keep("");
    handle.sent.then(
      ({ conversationId, seq }) => {
        this.#pending.delete(clientId);
        this.#tell({ t: "sent", clientId, conversationId, seq });
      },
      (error: unknown) => keep(reasonOf(error)),
    );
  }

  #snapshot(): Snapshot {
    const client = this.#client;
    const conversations = client.conversations();
    const newest = new Map<string, readonly Entry[]>();
    for (const { id } of conversations) newest.set(id, client.records(id).map(entryOf));
    return {
      userId: client.userId || this.#account.userId,
      connection: connectionView(client.connection),
      synced: this.#synced,
      conversations,
      newest,
      pending: [...this.#pending.values()],
      presences: [],
    };
  }

  #tell(event: SessionEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}

const unauthenticatedCode = 4100;

export function connectionView(connection: Connection): ConnectionView {
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

/** Errors whose message is for people: no code before it. */
async function plain<Value>(call: () => Promise<Value>): Promise<Value> {
  try {
    return await call();
  } catch (error) {
    throw new Error(reasonOf(error), { cause: error });
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof ConnectError) return error.rawMessage;
  return error instanceof Error ? error.message : String(error);
}
