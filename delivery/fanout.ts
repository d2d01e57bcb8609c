/** Tells the members' devices, through session, what was committed. It knows users, not where they are. */
import { type Conversation, smallGroupMax } from "./conversation.ts";
import type { Draft } from "./draft.ts";
import type { Cancel } from "../mesh/clock.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { type Peers, ringOf } from "../mesh/peers.ts";
import type { Ring } from "../mesh/ring.ts";
import type { Cursor } from "../proto/gen/parley/v1/record_pb.ts";
import {
  type Payload,
  type Publication,
  SessionService,
} from "../proto/gen/parley/session/v1/session_pb.ts";
import { Publisher } from "./publisher.ts";

/** In larger groups cursors are told together, once in a while. */
const eagerCursorsMax = 16;
const resyncChunk = 1_000;

export interface FanoutConfig {
  /** How long the cursors of a group of more than 16 members gather before they are told. */
  readonly cursorGatherMs: number;
}

/** The users of an audience who are at one session instance. */
interface Share {
  readonly publisher: Publisher;
  readonly userIds: string[];
}

export class Fanout {
  readonly #surroundings: Surroundings;
  readonly #config: FanoutConfig;
  readonly #peers: Peers;
  /** All users of conversations in memory: told to sync when pushes may have been lost. */
  readonly #everybody: () => Iterable<string>;
  readonly #publishers = new Map<string, Publisher>();
  #ring: Ring;
  /** How audiences are shared out: most are the same array as for the record before. */
  #shares = new WeakMap<string[], Share[]>();
  /** Where records of a commit that is not indexed yet were published. */
  readonly #commits = new Map<bigint, Set<Publisher>>();
  #unwatch: () => void = () => undefined;
  readonly #gathered = new Map<Conversation, Set<string>>();
  #cancelGathered: Cancel | undefined;

  constructor(surroundings: Surroundings, config: FanoutConfig, everybody: () => Iterable<string>) {
    this.#surroundings = surroundings;
    this.#config = config;
    this.#peers = surroundings.peers(SessionService);
    this.#everybody = everybody;
    this.#ring = ringOf(this.#peers.present);
  }

  /** Whether any session instance is reached. */
  get up(): boolean {
    return [...this.#publishers.values()].some(({ up }) => up);
  }

  start(): void {
    this.#unwatch = this.#peers.watch(() => this.#follow());
    this.#follow();
  }

  async close(): Promise<void> {
    this.#unwatch();
    this.#cancelGathered?.();
    await Promise.all(Array.from(this.#publishers.values(), (publisher) => publisher.close()));
  }

  /** The records of the commit are indexed. */
  indexed(commit: bigint): void {
    const publishers = this.#commits.get(commit);
    if (publishers === undefined) return;
    this.#commits.delete(commit);
    for (const publisher of publishers) publisher.tell(commit);
  }

  /** Pushes the records of a committed batch. `commit` is 0 where they are indexed already. */
  records(drafts: Draft[], commit: bigint): void {
    for (const { conversation, records } of drafts) {
      for (const { cell, origin, audience, trace } of records) {
        const { seq, record } = cell;
        const value = {
          $typeName: "parley.session.v1.RecordPayload" as const,
          conversationId: conversation.id,
          seq,
          record,
        };
        this.#publish(audience, origin, { case: "record", value }, commit, trace);
      }
    }
  }

  /** Tells of cursors that moved: at once among few, gathered among many, only to the user's own devices in large groups. */
  cursors(drafts: Draft[]): void {
    for (const { conversation, cursorMoves } of drafts) {
      if (cursorMoves.length === 0) continue;
      const eager = conversation.memberCount <= eagerCursorsMax;
      for (const { userId, origin } of cursorMoves) {
        this.#cursorsTo(eager ? conversation.audience : [userId], origin, conversation, [userId]);
        if (!eager && conversation.memberCount <= smallGroupMax) this.#gather(conversation, userId);
      }
    }
  }

  typing(conversation: Conversation, userId: string, origin: string): void {
    const others = conversation.audience.filter((other) => other !== userId);
    const value = {
      $typeName: "parley.v1.Typing" as const,
      conversationId: conversation.id,
      userId,
    };
    this.#publish(others, origin, { case: "typing", value });
  }

  #gather(conversation: Conversation, userId: string): void {
    let users = this.#gathered.get(conversation);
    if (users === undefined) this.#gathered.set(conversation, (users = new Set()));
    users.add(userId);
    this.#cancelGathered ??= this.#surroundings.clock.after(this.#config.cursorGatherMs, () => {
      this.#cancelGathered = undefined;
      for (const [gathered, userIds] of this.#gathered) {
        this.#cursorsTo(gathered.audience, "", gathered, userIds);
      }
      this.#gathered.clear();
    });
  }

  #cursorsTo(
    audience: string[],
    origin: string,
    conversation: Conversation,
    userIds: Iterable<string>,
  ): void {
    const cursors: Cursor[] = [];
    for (const userId of userIds) {
      const member = conversation.members.get(userId);
      if (member === undefined || member.leftSeq !== 0) continue;
      const { deliveredSeq, readSeq } = member;
      cursors.push({
        $typeName: "parley.v1.Cursor",
        conversationId: conversation.id,
        userId,
        deliveredSeq,
        readSeq,
      });
    }
    if (cursors.length === 0) return;
    const value = { $typeName: "parley.session.v1.Cursors" as const, cursors };
    this.#publish(audience, origin, { case: "cursors", value });
  }

  /** A conversation goes to another owner: what gathered is told while it is true. */
  forget(conversation: Conversation): void {
    const userIds = this.#gathered.get(conversation);
    if (userIds === undefined) return;
    this.#gathered.delete(conversation);
    this.#cursorsTo(conversation.audience, "", conversation, userIds);
  }

  /**
   * Session instances came or went. What is published from now on goes where the new ring says; the users for whom that is elsewhere are told to
   * sync, since a gateway that heard of the change later or earlier had them attached at the other place.
   */
  #follow(): void {
    const { present } = this.#peers;
    const before = this.#ring;
    this.#ring = ringOf(present);
    this.#shares = new WeakMap();
    const live = new Set(present.map(({ id }) => id));
    for (const [id, publisher] of this.#publishers) {
      if (live.has(id)) continue;
      this.#publishers.delete(id);
      void publisher.close();
    }
    for (const peer of present) {
      if (this.#publishers.has(peer.id)) continue;
      const publisher = new Publisher(this.#surroundings, peer, (back) => this.#resync(back));
      this.#publishers.set(peer.id, publisher);
      publisher.start();
    }
    this.#resync(undefined, (userId) => before.of(userId) !== this.#ring.of(userId));
  }

  /** Tells users of conversations in memory to sync: those at a publisher, or everywhere those for whom `which` says so. */
  #resync(publisher?: Publisher, which?: (userId: string) => boolean): void {
    let chunk: string[] = [];
    for (const userId of new Set(this.#everybody())) {
      if (publisher !== undefined && this.#ring.of(userId) !== publisher.peerId) continue;
      if (which?.(userId) === false) continue;
      chunk.push(userId);
      if (chunk.length < resyncChunk) continue;
      this.#publish(chunk, "", { case: "resync", value: true });
      chunk = [];
    }
    if (chunk.length > 0) this.#publish(chunk, "", { case: "resync", value: true });
  }

  #publish(
    audience: string[],
    exceptOrigin: string,
    payload: Payload["payload"],
    commit = 0n,
    trace?: Uint8Array,
  ): void {
    for (const { publisher, userIds } of this.#sharesOf(audience)) {
      const publication: Publication = {
        $typeName: "parley.session.v1.Publication",
        userIds,
        exceptOrigin,
        onlyOrigin: "",
        payload: { $typeName: "parley.session.v1.Payload", payload },
        commit,
      };
      if (trace !== undefined) publication.trace = trace;
      publisher.tell(publication);
      if (commit !== 0n) this.#note(commit, publisher);
    }
  }

  #note(commit: bigint, publisher: Publisher): void {
    const publishers = this.#commits.get(commit);
    if (publishers === undefined) this.#commits.set(commit, new Set([publisher]));
    else publishers.add(publisher);
  }

  #sharesOf(audience: string[]): Share[] {
    let shares = this.#shares.get(audience);
    if (shares === undefined) this.#shares.set(audience, (shares = this.#share(audience)));
    return shares;
  }

  #share(audience: string[]): Share[] {
    const [only] = this.#publishers.values();
    if (only !== undefined && this.#ring.ids.length === 1 && this.#publishers.size === 1)
      return [{ publisher: only, userIds: audience }];
    const shares = new Map<string, Share>();
    for (const userId of audience) {
      const publisher = this.#publishers.get(this.#ring.of(userId) ?? "");
      if (publisher === undefined) continue;
      const share = shares.get(publisher.peerId);
      if (share === undefined) shares.set(publisher.peerId, { publisher, userIds: [userId] });
      else share.userIds.push(userId);
    }
    return [...shares.values()];
  }
}
