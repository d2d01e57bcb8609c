/**
 * The embedded store in memory: all that the tables lack, and the conversations used last. Every read goes through here.
 * It must not know how things become durable.
 */
import type {
  ConversationWrite,
  ErasureReceipt,
  IndexRow,
  MediaHeader,
  Retention,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { Conversation } from "./conversation.ts";
import { directUsers } from "../mesh/ids.ts";
import { userHash } from "./erasure.ts";
import type { OwnUpload, Upload, Use } from "./ports.ts";
import { mergeRetention } from "./retention.ts";
import type { Tables } from "./tables.ts";

/** What an entry costs beside its bytes, roughly. */
const entryBytes = 200;

/** What one checkpoint brings to the tables, beside conversations. */
export interface SmallRows {
  revoked: Set<string>;
  /** 0: is to be forgotten. */
  lastSeen: Map<string, bigint>;
  /** Without a header: is to be removed. */
  media: Map<string, { upload: Upload; header: MediaHeader | undefined }>;
  uploads: Map<string, { upload: OwnUpload; there: boolean }>;
  erasures: Map<string, ErasureReceipt>;
  /** Undefined: is to be removed. */
  retentions: Map<string, Retention | undefined>;
}

const mediaKey = (conversationId: string, mediaId: string): string =>
  `${conversationId}\0${mediaId}`;

const noSmallRows = (): SmallRows => ({
  revoked: new Set(),
  lastSeen: new Map(),
  media: new Map(),
  uploads: new Map(),
  erasures: new Map(),
  retentions: new Map(),
});

export class Memtable {
  readonly #tables: Tables;
  readonly #cachedMax: number;
  readonly #conversations = new Map<string, Conversation>();
  #hand = this.#conversations.values();
  #dirty: Conversation[] = [];
  /** user → conversations whose membership rows the tables lack. */
  readonly #memberships = new Map<string, Set<string>>();
  readonly #revoked: Set<string>;
  /** What the tables lack, and what is on its way there. */
  #small = noSmallRows();
  #leaving = noSmallRows();
  #batches = 0;
  /** A measure of what the tables lack. */
  dirtyBytes = 0;

  constructor(tables: Tables, cachedMax: number) {
    this.#tables = tables;
    this.#cachedMax = cachedMax;
    this.#revoked = new Set(tables.revoked());
  }

  /** To write to it. It stays in memory until `sweep`, and longer where it is then dirty. */
  open(id: string): Conversation {
    let conversation = this.#conversations.get(id);
    if (conversation === undefined) {
      conversation = new Conversation(id, this.#tables);
      this.#conversations.set(id, conversation);
    }
    conversation.used = true;
    return conversation;
  }

  /** A number for a batch, to find one that names a conversation twice. */
  nextBatch(): number {
    this.#batches += 1;
    return this.#batches;
  }

  /** To read it. */
  peek(id: string): Conversation {
    return this.#conversations.get(id) ?? new Conversation(id, this.#tables);
  }

  apply(conversation: Conversation, write: ConversationWrite): void {
    conversation.apply(write, (userId) => {
      const ids = this.#memberships.get(userId);
      if (ids === undefined) this.#memberships.set(userId, new Set([conversation.id]));
      else ids.add(conversation.id);
    });
    this.dirtyBytes += entryBytes;
    this.#dirtied(conversation);
  }

  #dirtied(conversation: Conversation): void {
    if (conversation.dirty) return;
    conversation.dirty = true;
    this.#dirty.push(conversation);
  }

  index(userId: string): IndexRow[] {
    const newer = this.#memberships.get(userId);
    const stored = this.#tables.conversationsOf(userId);
    const ids = newer === undefined ? stored : [...new Set([...stored, ...newer])].sort();
    const rows: IndexRow[] = [];
    for (const conversationId of ids) {
      const conversation = this.peek(conversationId);
      const member = conversation.member(userId);
      const { state } = conversation;
      if (state === undefined || member === undefined) continue;
      rows.push({ $typeName: "parley.storage.v1.IndexRow", conversationId, state, member });
    }
    return rows;
  }

  isRevoked(incarnation: string): boolean {
    return this.#revoked.has(incarnation);
  }

  /** Refuses the incarnation from now on, durable or not; `unplanRevoke` takes that back. False: it was refused already. */
  planRevoke(incarnation: string): boolean {
    if (this.#revoked.has(incarnation)) return false;
    this.#revoked.add(incarnation);
    return true;
  }

  unplanRevoke(incarnation: string): void {
    this.#revoked.delete(incarnation);
  }

  revoke(incarnation: string): void {
    this.#revoked.add(incarnation);
    this.#small.revoked.add(incarnation);
    this.dirtyBytes += entryBytes;
  }

  lastSeen(userId: string): bigint {
    const newer = this.#small.lastSeen.get(userId) ?? this.#leaving.lastSeen.get(userId);
    return newer ?? this.#tables.lastSeen(userId);
  }

  putLastSeen(userId: string, timeMs: bigint): void {
    if (this.lastSeen(userId) >= timeMs || this.erasure(userId) !== undefined) return;
    this.#small.lastSeen.set(userId, timeMs);
    this.dirtyBytes += entryBytes;
  }

  media(conversationId: string, mediaId: string): MediaHeader | undefined {
    const key = mediaKey(conversationId, mediaId);
    const newer = this.#small.media.get(key) ?? this.#leaving.media.get(key);
    return newer === undefined ? this.#tables.media(conversationId, mediaId) : newer.header;
  }

  putMedia(header: MediaHeader): void {
    const { conversationId, mediaId } = header;
    if (this.media(conversationId, mediaId) !== undefined) return;
    const upload = { conversationId, mediaId };
    this.#small.media.set(mediaKey(conversationId, mediaId), { upload, header });
    this.dirtyBytes += entryBytes + header.thumbnail.length;
  }

  /** Or takes it back. */
  putUpload(upload: OwnUpload, there: boolean): void {
    const { userId, conversationId, mediaId } = upload;
    this.#small.uploads.set(`${userId}\0${mediaKey(conversationId, mediaId)}`, { upload, there });
    this.dirtyBytes += entryBytes;
  }

  removeUpload(upload: OwnUpload, withHeader: boolean): void {
    const { conversationId, mediaId } = upload;
    this.putUpload(upload, false);
    if (withHeader)
      this.#small.media.set(mediaKey(conversationId, mediaId), { upload, header: undefined });
  }

  uploads(userId?: string): OwnUpload[] {
    const found = new Map<string, OwnUpload>();
    for (const upload of this.#tables.uploads(userId))
      found.set(`${upload.userId}\0${mediaKey(upload.conversationId, upload.mediaId)}`, upload);
    for (const { uploads } of [this.#leaving, this.#small])
      for (const [key, { upload, there }] of uploads)
        if (!there) found.delete(key);
        else if (userId === undefined || upload.userId === userId) found.set(key, upload);
    return [...found.values()];
  }

  /** By one pass over all media: an erasure is rare, and rows that nobody else needs would cost each upload more. */
  usesOf(conversationId: string, userId: string, mediaIds: readonly string[]): Use[] {
    if (mediaIds.length === 0) return [];
    const wanted = new Set(mediaIds);
    const others = new Set<string>();
    for (const upload of this.uploads())
      if (upload.conversationId === conversationId && upload.userId !== userId)
        others.add(upload.mediaId);
    const elsewhere = new Set<string>();
    const newer = new Map([...this.#leaving.media, ...this.#small.media]);
    const see = (upload: Upload): void => {
      if (upload.conversationId === conversationId || !wanted.has(upload.mediaId)) return;
      elsewhere.add(upload.mediaId);
    };
    for (const upload of this.#tables.allMedia())
      if (!newer.has(mediaKey(upload.conversationId, upload.mediaId))) see(upload);
    for (const { upload, header } of newer.values()) if (header !== undefined) see(upload);
    return mediaIds.map((mediaId) => ({
      mediaId,
      there: this.media(conversationId, mediaId) !== undefined,
      others: others.has(mediaId),
      elsewhere: others.has(mediaId) || elsewhere.has(mediaId),
    }));
  }

  erasure(userId: string): ErasureReceipt | undefined {
    const hash = userHash(userId);
    const newer = this.#small.erasures.get(hash) ?? this.#leaving.erasures.get(hash);
    return newer ?? this.#tables.erasure(hash);
  }

  putErasure(receipt: ErasureReceipt): void {
    const hash = receipt.userHash;
    const newer = this.#small.erasures.get(hash) ?? this.#leaving.erasures.get(hash);
    const kept = newer ?? this.#tables.erasure(hash);
    if (kept !== undefined && kept.revision >= receipt.revision) return;
    this.#small.erasures.set(hash, receipt);
    this.dirtyBytes += entryBytes;
  }

  retention(conversationId: string): Retention | undefined {
    const { retentions } = this.#small;
    for (const newer of [retentions, this.#leaving.retentions])
      if (newer.has(conversationId)) return newer.get(conversationId);
    return this.#tables.retention(conversationId);
  }

  putRetention(retention: Retention): void {
    const { conversationId } = retention;
    const next = mergeRetention(this.retention(conversationId), retention);
    this.#small.retentions.set(conversationId, next);
    this.dirtyBytes += entryBytes;
  }

  retentions(): Retention[] {
    const { retentions } = this.#small;
    const newer = new Map([...this.#leaving.retentions, ...retentions]);
    const stored = [...this.#tables.retentions()];
    return [
      ...stored.filter(({ conversationId }) => !newer.has(conversationId)),
      ...[...newer.values()].flatMap((one) => one ?? []),
    ];
  }

  removeConversation(conversation: Conversation): void {
    conversation.remove();
    this.#small.retentions.set(conversation.id, undefined);
    this.touched(conversation);
  }

  trim(conversation: Conversation, floorSeq: number): void {
    conversation.trim(floorSeq);
    this.touched(conversation);
  }

  forgetSeen(userId: string): void {
    this.#small.lastSeen.set(userId, 0n);
    this.dirtyBytes += entryBytes;
  }

  /** The conversation's cells changed, or its members, other than by a write. */
  touched(conversation: Conversation): void {
    this.dirtyBytes += entryBytes;
    this.#dirtied(conversation);
  }

  forgetMember(conversation: Conversation, userId: string): void {
    conversation.forget(userId, directUsers(conversation.id) !== undefined);
    this.forgetNewcomers(conversation.id, [userId]);
    this.touched(conversation);
  }

  /**
   * Begins a flush: hands over which conversations are dirty, ordered by id so that neighbours in the tables are written
   * together, and the small rows. All of it stays visible here until `flushed`.
   */
  take(): { conversations: Conversation[]; small: SmallRows; bytes: number } {
    const byId = new Map(this.#dirty.map((conversation) => [conversation.id, conversation]));
    const bytes = this.dirtyBytes;
    this.#dirty = [];
    this.dirtyBytes = 0;
    this.#leaving = this.#small;
    this.#small = noSmallRows();
    const conversations = [...byId.keys()].sort().flatMap((id) => byId.get(id) ?? []);
    return { conversations, small: this.#leaving, bytes };
  }

  /** The tables have the membership rows of these users. */
  forgetNewcomers(conversationId: string, userIds: Iterable<string>): void {
    for (const userId of userIds) {
      const ids = this.#memberships.get(userId);
      ids?.delete(conversationId);
      if (ids?.size === 0) this.#memberships.delete(userId);
    }
  }

  /** Ends a flush that brought everything to the tables. */
  flushed(): void {
    this.#leaving = noSmallRows();
  }

  /** Ends a flush that failed: what it did not bring to the tables is dirty again. */
  unflushed(conversations: Iterable<Conversation>, bytes: number): void {
    for (const conversation of conversations) {
      conversation.dirty = false;
      this.#dirtied(conversation);
    }
    const { revoked, lastSeen, media, uploads, erasures, retentions } = this.#small;
    this.#small = {
      revoked: new Set([...this.#leaving.revoked, ...revoked]),
      lastSeen: new Map([...this.#leaving.lastSeen, ...lastSeen]),
      media: new Map([...this.#leaving.media, ...media]),
      uploads: new Map([...this.#leaving.uploads, ...uploads]),
      erasures: new Map([...this.#leaving.erasures, ...erasures]),
      retentions: new Map([...this.#leaving.retentions, ...retentions]),
    };
    this.#leaving = noSmallRows();
    this.dirtyBytes += bytes;
  }

  /** Lets go of conversations that were not used of late, where there are too many. Only while no write is planned. */
  sweep(): void {
    let passed = 0;
    while (this.#conversations.size > this.#cachedMax && passed < 2 * this.#cachedMax) {
      const { done, value } = this.#hand.next();
      passed += 1;
      if (done === true) this.#hand = this.#conversations.values();
      else if (value.dirty || value.flushing || value.used) value.used = false;
      else this.#conversations.delete(value.id);
    }
  }
}
