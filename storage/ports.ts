/** What storage needs from outside: a store for what is small and ordered, and a place for media. Both are checked by one suite over all adapters. */
import type {
  AppendRequest,
  Cell,
  ConversationState,
  ErasureReceipt,
  IndexRow,
  LastSeen,
  MediaHeader,
  Member,
  Retention,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";

/** A conversation as one user sees it. */
export interface Membership {
  readonly state: ConversationState;
  readonly member: Member;
}

/** What a new owner begins with. */
export interface Opened {
  readonly state: ConversationState | undefined;
  /** The first of the members, by id. */
  readonly members: readonly Member[];
  /** Who of a direct conversation's two users is erased. */
  readonly erased: readonly string[];
}

/** Which medium in which conversation. */
export interface Upload {
  readonly conversationId: string;
  readonly mediaId: string;
}

/** Whose it is. */
export interface OwnUpload extends Upload {
  readonly userId: string;
}

/** Who else than one user uses a medium. */
export interface Use {
  readonly mediaId: string;
  /** It is a part of the conversation. */
  readonly there: boolean;
  /** Others uploaded it there, too. */
  readonly others: boolean;
  /** Others uploaded the same bytes there or elsewhere: they are to be kept. */
  readonly elsewhere: boolean;
}

/**
 * Keeps logs, indexes, members, revocations, last-seen times and which media belong where.
 *
 * - What a write resolved for survives a crash at any moment. A write that rejected is never seen, by anybody, unless it is
 *   written again. Rejections are ConnectErrors: RESOURCE_EXHAUSTED or UNAVAILABLE where trying again later makes sense.
 * - Writes take effect in the order of their calls, and reads see all writes that have resolved. Where a batch fails, those on the same
 *   conversations that were handed over meanwhile fail, too.
 * - What is handed over, in either direction, nobody changes afterwards.
 */
export interface Store {
  /**
   * Keeps a batch, all or nothing where the store can. Calls `committed` when it is durable, where that comes before the end;
   * resolves when every member's index shows it, too.
   * ABORTED: the incarnation is revoked, or must write no more. FAILED_PRECONDITION: a cell does not link to what is kept (see
   * history.ts), as far as the store can tell without reading it. INVALID_ARGUMENT: the batch can never be kept.
   * An UnknownOutcome (errors.ts): it closes, and the batch is to be sent again, the same in every bit, to another instance.
   */
  append(batch: AppendRequest, committed: () => void): Promise<void>;
  /** From when it resolves no batch of the incarnation is kept, and all that were are seen by reads. For good. */
  revoke(incarnation: string): Promise<void>;

  /** The state at the index head, or undefined where there is no such conversation. */
  conversation(conversationId: string): Promise<ConversationState | undefined>;
  /** The state and the first members, `membersMax` at most: for a new owner, who goes on with `membersAfter`. */
  opened(conversationId: string, membersMax: number): Promise<Opened>;
  /** What a present or former member sees; undefined where there is no such conversation or the user was never a member. */
  membership(conversationId: string, userId: string): Promise<Membership | undefined>;
  /**
   * Cells with first <= seq <= last, in order of seq, above the index head too; holes are left out. What is behind a hole of thousands
   * may be left out, too: it was never committed.
   */
  cells(conversationId: string, firstSeq: number, lastSeq: number): Promise<Cell[]>;
  /** Present and former members by their ids, in the order asked. */
  members(conversationId: string, userIds: readonly string[]): Promise<(Member | undefined)[]>;
  /** Present and former members with ids greater than that one, ordered by id, `limit` at most. */
  membersAfter(conversationId: string, afterUserId: string, limit: number): Promise<Member[]>;
  /** Every conversation in which the user is or was a member, ordered by conversation id. Only here do states have least cursors. */
  index(userId: string): Promise<IndexRow[]>;
  /** The last seq that the user may read, of every conversation of the index. */
  heads(userId: string): Promise<number[]>;
  /** The conversations in which the user is a member now. */
  memberOf(userId: string): Promise<string[]>;

  /** A time that is lower than the kept one changes nothing. */
  putLastSeen(seen: readonly LastSeen[]): Promise<void>;
  /** In the order asked; 0 where never seen. */
  lastSeen(userIds: readonly string[]): Promise<bigint[]>;

  /** Makes a medium part of a conversation; the first header stays. Keeps whose upload it is, too, where that is not empty. */
  putMedia(header: MediaHeader, uploaderId: string): Promise<void>;
  media(conversationId: string, mediaId: string): Promise<MediaHeader | undefined>;

  /** Keeps the mark of an erased user, and what was erased so far. A lower revision than the kept one changes nothing. */
  putErasure(receipt: ErasureReceipt): Promise<void>;
  /** In the order asked; undefined for users who are not marked. */
  erasures(userIds: readonly string[]): Promise<(ErasureReceipt | undefined)[]>;
  /**
   * Replaces records at or below the index head by what an erasure leaves of them, whatever is written there later; and the receipt by that
   * which counts them, at once where the store can.
   */
  rewrite(conversationId: string, cells: readonly Cell[], receipt: ErasureReceipt): Promise<void>;
  /**
   * Takes the conversation from the index of an erased user, and the user from its members: `membership`, `members` and `membersAfter` know
   * them no more. `opened` still has them in a direct conversation, with how far they had read. The receipt as with `rewrite`.
   */
  forgetMember(conversationId: string, userId: string, receipt: ErasureReceipt): Promise<void>;
  /** Removes a conversation that nobody has any more, with all that is kept of it; media go by themselves. May come again. */
  removeConversation(conversationId: string): Promise<void>;
  /** Forgets when an erased user was last seen, and what an interrupted erasure may have left of their index, for good. */
  forgetUser(userId: string): Promise<void>;
  /** What a user uploaded that is not removed, as far as uploads name who makes them. */
  uploads(userId: string): Promise<Upload[]>;
  /** For each medium, who else uses it. */
  usesOf(conversationId: string, userId: string, mediaIds: readonly string[]): Promise<Use[]>;
  /** Forgets the user's upload, and the medium as a part of the conversation where nobody else uploaded it there. */
  removeUpload(
    conversationId: string,
    mediaId: string,
    userId: string,
    withHeader: boolean,
  ): Promise<void>;
  /** Keeps the setting of the higher revision, and the higher of each seq. */
  putRetention(retention: Retention): Promise<void>;
  retention(conversationId: string): Promise<Retention | undefined>;
  /** All there are. */
  retentions(): AsyncIterable<Retention>;
  /** Removes cells with firstSeq <= seq < floorSeq, all below the head, for good. */
  trim(conversationId: string, firstSeq: number, floorSeq: number): Promise<void>;

  /** Names the store: random, another one after it was restored from a backup. Empty: it has none. */
  readonly id: string;

  /** Sees to it that nothing of what was replaced or removed is left in files, as far as that is the store's own to do. */
  scrub(): Promise<void>;

  /** Why it cannot serve now, a sentence each. */
  problems(): string[];
  /** Waits for the writes under way and lets go of everything. Later calls reject. */
  close(): Promise<void>;
}

/** Keeps bytes under the hash of their content. Who may see them is not its affair. */
export interface MediaStore {
  /**
   * Keeps all the bytes, durably, and answers with their lower-case hex SHA-256. The same bytes are kept once.
   * Where it rejects, or the chunks do, nothing of them stays. RESOURCE_EXHAUSTED: no room.
   */
  put(chunks: AsyncIterable<Uint8Array>): Promise<{ mediaId: string; size: number }>;
  /** The bytes from `offset` on, `length` of them at most, in chunks of at most 64 KiB. NOT_FOUND where it has none. */
  get(mediaId: string, offset: number, length: number): AsyncIterable<Uint8Array>;
  has(mediaId: string): Promise<boolean>;
  /** Forgets the bytes, durably; nothing happens where it has none. */
  remove(mediaId: string): Promise<void>;
}
