/** Follows who is online: a stream to each session instance, about the users that fall to this instance. It keeps the roster's time. */
import { createClient } from "@connectrpc/connect";
import type { Cancel } from "../mesh/clock.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { Peer, Peers } from "../mesh/peers.ts";
import { ringOf } from "../mesh/peers.ts";
import { Ring } from "../mesh/ring.ts";
import type { KeptStream } from "../mesh/stream.ts";
import { keepStream } from "../mesh/stream.ts";
import { PresenceService } from "../proto/gen/parley/presence/v1/presence_pb.ts";
import { SessionService } from "../proto/gen/parley/session/v1/session_pb.ts";
import type { Follower, Sessions } from "./ports.ts";
import type { Moment, Person, Roster, Source } from "./roster.ts";
import { newSource } from "./roster.ts";
import { Share } from "./share.ts";

/** Changes of the share that may come before session caught up with one; then nobody is known until it has. */
const sharesMax = 16;

interface Followed {
  peer: Peer;
  readonly source: Source;
  stream: KeptStream | undefined;
  /** The share whose users it told completely. */
  listed: Share | undefined;
}

export class Following {
  readonly #surroundings: Surroundings;
  readonly #roster: Roster;
  readonly #graceMs: number;
  readonly #follower: Follower;
  readonly #sessions: Peers;
  readonly #presences: Peers;
  readonly #followed = new Map<string, Followed>();
  /** Where users connect now, as far as is known here. */
  #ring = new Ring([]);
  #share: Share;
  /** The present share, after those since whose beginning not all was told: whoever was in all of them is known. Undefined: nobody is. */
  #shares: Share[] | undefined;
  /** Until then gateways announce elsewhere what an instance had that went away all at once. */
  #announcedMs = 0;
  #announcedTimer: Cancel | undefined;
  #graceTimer: Cancel | undefined;
  #unwatch: (() => void)[] = [];
  readonly #closing = new Set<Promise<void>>();

  constructor(surroundings: Surroundings, roster: Roster, graceMs: number, follower: Follower) {
    this.#surroundings = surroundings;
    this.#roster = roster;
    this.#graceMs = graceMs;
    this.#follower = follower;
    this.#sessions = surroundings.peers(SessionService);
    this.#presences = surroundings.peers(PresenceService);
    this.#share = new Share(this.#presences.present, surroundings.identity.id);
  }

  start(): void {
    const { identity } = this.#surroundings;
    this.#unwatch = [
      this.#presences.watch(() => this.#shareAnew()),
      identity.watch(() => this.#shareAnew()),
      this.#sessions.watch(() => this.#meet()),
    ];
    this.#shareAnew();
    this.#meet();
  }

  /** Whether it is known here of each of these whether they are online. */
  knows(userIds: readonly string[]): boolean {
    const shares = this.#shares;
    return (
      shares !== undefined && userIds.every((userId) => shares.every((share) => share.has(userId)))
    );
  }

  problems(): string[] {
    if (this.#shares === undefined) return ["presence does not know yet who is online"];
    for (const { source } of this.#followed.values()) if (source.heard) return [];
    return ["presence is not told by session who is online"];
  }

  /** Whether nobody else tells of the users of this instance once it is gone. */
  get isLast(): boolean {
    const { id } = this.#surroundings.identity;
    return this.#presences.present.every((peer) => peer.id === id || peer.draining);
  }

  async close(): Promise<void> {
    for (const unwatch of this.#unwatch) unwatch();
    this.#announcedTimer?.();
    this.#graceTimer?.();
    for (const followed of this.#followed.values()) this.#leave(followed);
    await Promise.all(this.#closing);
  }

  /** The users of this instance are others now: session is asked about them, and the others are let go. */
  #shareAnew(): void {
    const share = new Share(this.#presences.present, this.#surroundings.identity.id);
    if (share.is(this.#share)) return;
    this.#share = share;
    this.#shares?.push(share);
    if (this.#shares !== undefined && this.#shares.length > sharesMax) this.#shares = undefined;
    this.#roster.keepOnly((userId) => share.has(userId));
    for (const followed of this.#followed.values()) {
      this.#leave(followed);
      this.#follow(followed);
    }
    this.#follower.learned();
  }

  /** While no session instance is there at all nobody can come elsewhere: everybody stays until one is. */
  #meet(): void {
    const { present } = this.#sessions;
    if (present.length === 0) return;
    const ids = new Set(present.map(({ id }) => id));
    for (const [id, followed] of this.#followed) if (!ids.has(id)) this.#lose(id, followed);
    this.#ring = ringOf(present);
    for (const peer of present) {
      const known = this.#followed.get(peer.id);
      if (known !== undefined) {
        known.peer = peer;
        continue;
      }
      const source = newSource();
      const followed: Followed = { peer, source, stream: undefined, listed: undefined };
      this.#followed.set(peer.id, followed);
      this.#follow(followed);
    }
    this.#roster.release(this.#mayEnd);
    this.#checkKnown();
    this.#settle();
  }

  #lose(id: string, followed: Followed): void {
    this.#leave(followed);
    this.#followed.delete(id);
    const moment = this.#moment();
    if (!followed.peer.draining) this.#announcedMs = moment.monotonicMs + this.#graceMs;
    const mayBeThere = ({ userId }: Person): boolean => this.#ring.of(userId) === id;
    this.#roster.gone(followed.source, moment, mayBeThere);
  }

  #follow(followed: Followed): void {
    const { id, name } = followed.peer;
    const share = this.#share;
    const log = this.#surroundings.log.child({ session: name || id });
    followed.stream = keepStream({ ...this.#surroundings, log }, "presence to session", (signal) =>
      this.#listen(followed, share, signal),
    );
  }

  #leave({ stream }: Followed): void {
    const closing = stream?.close();
    if (closing === undefined) return;
    this.#closing.add(closing);
    void closing.finally(() => this.#closing.delete(closing));
  }

  /** Nobody goes offline because this stream breaks: whoever is then missing in the next list has the grace from there on. */
  async #listen(followed: Followed, share: Share, signal: AbortSignal): Promise<void> {
    const { source } = followed;
    const sessions: Sessions = createClient(SessionService, followed.peer.transport);
    this.#roster.beginList(source);
    try {
      const asked = { presenceIds: [...share.ids], presenceId: share.id };
      for await (const told of sessions.watchOnline(asked, { signal })) {
        if (signal.aborted) return;
        for (const userId of told.onlineUserIds) this.#roster.online(source, userId);
        for (const userId of told.offlineUserIds)
          this.#roster.offline(source, userId, this.#moment());
        if (told.initialComplete) this.#listed(followed, share, told.lostMsAgo);
        this.#settle();
      }
    } finally {
      // Once aborted it is no business of this run: another one may be telling already.
      if (!signal.aborted) source.heard = false;
    }
  }

  #listed(followed: Followed, share: Share, lostMsAgo: number): void {
    const moment = this.#moment();
    this.#roster.endList(followed.source, moment);
    // One that went away before anything was followed here.
    if (lostMsAgo > 0)
      this.#announcedMs = Math.max(
        this.#announcedMs,
        moment.monotonicMs + this.#graceMs - lostMsAgo,
      );
    followed.listed = share;
    this.#roster.release(this.#mayEnd);
    this.#checkKnown();
  }

  /** Everybody of the share is known when all have told all, also of those whose session instance went away just now. */
  #checkKnown(): void {
    if (this.#shares?.length === 1 && this.#shares[0] === this.#share) return;
    if (this.#followed.size === 0) return;
    for (const { listed } of this.#followed.values()) if (listed !== this.#share) return;
    const waitMs = this.#announcedMs - this.#surroundings.clock.monotonic();
    if (waitMs > 0) {
      this.#announcedTimer ??= this.#surroundings.clock.after(Math.ceil(waitMs), () => {
        this.#announcedTimer = undefined;
        this.#checkKnown();
      });
      return;
    }
    this.#shares = [this.#share];
    this.#follower.learned();
  }

  /** After every change of the roster: what falls due later is armed. */
  #settle(): void {
    this.#follower.told();
    const dueMs = this.#roster.nextDeadlineMs;
    if (dueMs === undefined || this.#graceTimer !== undefined) return;
    const { clock } = this.#surroundings;
    this.#graceTimer = clock.after(Math.max(0, Math.ceil(dueMs - clock.monotonic())), () => {
      this.#graceTimer = undefined;
      this.#roster.expire(clock.monotonic(), this.#mayEnd);
      this.#settle();
    });
  }

  /** Where the user left, and where the user would be now, nobody may be back unsaid. */
  readonly #mayEnd = ({ userId, leftBy }: Person): boolean => {
    const id = this.#ring.of(userId);
    const there = id === undefined ? undefined : this.#followed.get(id);
    return (leftBy?.heard ?? true) && (there?.source.heard ?? false);
  };

  #moment(): Moment {
    const { clock } = this.#surroundings;
    return { nowMs: clock.now(), monotonicMs: clock.monotonic() };
  }
}
