/**
 * What the page needs of one signed-in user: the border between what is drawn and what is connected. Everything that crosses it can be
 * cloned, so that the other side may be a worker that several tabs share.
 */
import type { Attachment, ConversationView, SendTarget } from "../../index.ts";

export type { Attachment, ConversationView, SendTarget };

/** An entry of a conversation's log, as it is drawn. */
export interface Entry {
  readonly conversationId: string;
  readonly seq: number;
  readonly senderId: string;
  /** The send's id in base64url; "" where no client sent it. */
  readonly clientId: string;
  readonly timeMs: number;
  readonly body: MessageBody | MembersBody | ErasedBody | ErasureBody;
}

/** Its sender's data were erased. */
export interface ErasedBody {
  readonly t: "erased";
}

/** Says which entries are erased: what is kept of them is to be forgotten. */
export interface ErasureBody {
  readonly t: "erasure";
  readonly ranges: readonly { readonly from: number; readonly to: number }[];
}

export interface MessageBody {
  readonly t: "message";
  readonly text: string;
  readonly attachments: readonly Attachment[];
  /** The seq that it answers; 0 for none. */
  readonly replyToSeq: number;
}

export interface MembersBody {
  readonly t: "members";
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** Undefined: the title stays. */
  readonly title: string | undefined;
}

/** One of the user's own messages that the server has not taken yet, from whichever tab. */
export interface Pending {
  readonly clientId: string;
  readonly to: SendTarget;
  readonly body: MessageBody;
  /** When it was written; 0 where that is not known any more. */
  readonly timeMs: number;
  /** Why the server refused it for good; "" while it waits. */
  readonly error: string;
}

export interface MemberCursor {
  readonly userId: string;
  readonly deliveredSeq: number;
  readonly readSeq: number;
}

export interface PresenceView {
  readonly userId: string;
  readonly online: boolean;
  /** 0 while online, or where never seen. */
  readonly lastSeenMs: number;
}

export type ConnectionView =
  | { readonly t: "connecting" }
  | { readonly t: "live" }
  /** Tries again in `delayMs` by itself. */
  | { readonly t: "waiting"; readonly delayMs: number; readonly reason: string }
  /** Stays away until the user acts. `signedOut`: the token is no longer taken. */
  | { readonly t: "stopped"; readonly reason: string; readonly signedOut: boolean };

/** All that is known at once: the first event of every subscription. */
export interface Snapshot {
  readonly userId: string;
  readonly connection: ConnectionView;
  /** All that happened before is known. */
  readonly synced: boolean;
  readonly conversations: readonly ConversationView[];
  /** The newest entries that are at hand for each conversation, oldest first, without a hole. */
  readonly newest: ReadonlyMap<string, readonly Entry[]>;
  readonly pending: readonly Pending[];
  readonly presences: readonly PresenceView[];
}

export type SessionEvent =
  | { readonly t: "snapshot"; readonly snapshot: Snapshot }
  | { readonly t: "connection"; readonly connection: ConnectionView }
  | { readonly t: "synced" }
  | { readonly t: "conversation"; readonly conversation: ConversationView }
  /** In order within its conversation; what is left out, a gap has named before. */
  | { readonly t: "entry"; readonly entry: Entry }
  /** Seqs that no entry event brings. `more`: `history` has them. */
  | {
      readonly t: "gap";
      readonly conversationId: string;
      readonly from: number;
      readonly to: number;
      readonly more: boolean;
    }
  /** New, or changed (it failed). */
  | { readonly t: "pending"; readonly pending: Pending }
  /** The server has it; its entry comes, too. */
  | {
      readonly t: "sent";
      readonly clientId: string;
      readonly conversationId: string;
      readonly seq: number;
    }
  /** Dropped by the user. */
  | { readonly t: "dropped"; readonly clientId: string }
  | { readonly t: "cursor"; readonly conversationId: string; readonly cursor: MemberCursor }
  | { readonly t: "presence"; readonly presence: PresenceView }
  | { readonly t: "typing"; readonly conversationId: string; readonly userId: string };

export interface HistoryPage {
  /** Oldest first, without a hole. */
  readonly entries: readonly Entry[];
  readonly headSeq: number;
  readonly floorSeq: number;
}

export interface HistoryWindow {
  readonly afterSeq?: number;
  readonly beforeSeq?: number;
  readonly limit?: number;
}

export interface UploadWatch {
  /** 0 to 1. */
  readonly progress: (part: number) => void;
  readonly signal: AbortSignal;
}

export interface MessageInput {
  readonly text: string;
  readonly attachments?: readonly Attachment[];
  readonly replyToSeq?: number;
}

/** Methods reject with an Error whose message says what to do. */
export interface Session {
  /** Tells the listener a snapshot as soon as there is one, then all that changes, until the returned function is called. */
  subscribe(listener: (event: SessionEvent) => void): () => void;
  /** Connects at once where it waits or has stopped. */
  reconnect(): void;
  /** Waits for as long as it takes, and goes out once. Gives its client id. */
  send(to: SendTarget, message: MessageInput): Promise<string>;
  /** Tries a message that failed once more, under a new id, or drops it. */
  retry(clientId: string): Promise<void>;
  drop(clientId: string): Promise<void>;
  markRead(conversationId: string, seq: number): void;
  setTyping(conversationId: string): void;
  /** Answered from what is kept where the server cannot be asked. */
  history(conversationId: string, window: HistoryWindow): Promise<HistoryPage>;
  /** All members, at most 1,000, with their cursors. */
  members(conversationId: string): Promise<readonly MemberCursor[]>;
  createGroup(title: string, memberIds: readonly string[]): Promise<ConversationView>;
  updateGroup(
    conversationId: string,
    change: {
      readonly add?: readonly string[];
      readonly remove?: readonly string[];
      readonly title?: string;
    },
  ): Promise<void>;
  leaveGroup(conversationId: string): Promise<void>;
  /** This tab wants these users' presence, in place of those before. */
  watchPresence(userIds: readonly string[]): Promise<void>;
  upload(
    conversationId: string,
    file: Blob,
    fileName: string,
    watch: UploadWatch,
  ): Promise<Attachment>;
  media(conversationId: string, mediaId: string): Promise<Blob>;
  /** This tab needs it no more. */
  close(): Promise<void>;
}

/** Who is signed in, in this tab. */
export interface Account {
  readonly userId: string;
  /** A token that is good now. */
  token(): Promise<string>;
}

/** The ways to sign in that the server offers. */
export interface SignInOffer {
  /** Any name does: the server makes development tokens. */
  readonly development: boolean;
  /** What to write on the button that goes to the identity provider; "" where there is none. */
  readonly oidc: string;
}

export interface SignIn {
  offer(): Promise<SignInOffer>;
  /** Who this tab belongs to already, also after the way back from an identity provider. */
  current(): Promise<Account | undefined>;
  /** Names that were used in this browser before, the latest first. */
  known(): Promise<readonly string[]>;
  byName(name: string): Promise<Account>;
  byToken(token: string): Promise<Account>;
  /** Leaves the page. */
  byProvider(): Promise<void>;
  /** Forgets the token, and what is kept of the user in this browser. */
  signOut(account: Account): Promise<void>;
}

/** What the page is started with. */
export interface Surroundings {
  readonly signIn: SignIn;
  openSession(account: Account): Session;
}
