/**
 * Records that passed and are not in their members' indexes yet, and who attached meanwhile: such a device got the record neither pushed nor
 * by a sync before it was indexed. It must not know about streams or what the records say.
 */
import { overloaded } from "../mesh/errors.ts";
import type { Session } from "./registry.ts";

/** Publications of open commits that one publisher may have, unless told otherwise. */
const publicationsMax = 65_536;
/** Attached sessions kept before those that ended are sorted out for the first time. */
const attachedFloor = 1_024;

interface OpenCommit {
  /** The last attachment before it passed. */
  readonly place: number;
  /** Whom its publications went to: the lists as they came. */
  readonly userIds: (readonly string[])[];
}

/** The open commits of all publishers. While there are none, an attachment costs a number and a message nothing. */
export class Commits {
  readonly #publishers = new Set<OpenCommits>();
  /** In order of attachment; empty while no commit is open. */
  #attached: Session[] = [];
  #attachedMax = attachedFloor;
  #lastPlace = 0;
  #openCount = 0;

  /** A publisher's stream began. */
  begin(max = publicationsMax): OpenCommits {
    const publisher = new OpenCommits(this, max);
    this.#publishers.add(publisher);
    return publisher;
  }

  /** The place of one more attachment in the order of all. */
  nextPlace(): number {
    this.#lastPlace += 1;
    return this.#lastPlace;
  }

  get lastPlace(): number {
    return this.#lastPlace;
  }

  /** What it holds; all 0 while no commit is open. */
  get size(): { open: number; attached: number } {
    return { open: this.#openCount, attached: this.#attached.length };
  }

  attached(session: Session): void {
    if (this.#openCount === 0) return;
    if (this.#attached.length >= this.#attachedMax) {
      this.#attached = this.#attached.filter(lives);
      this.#attachedMax = Math.max(attachedFloor, 2 * this.#attached.length);
    }
    this.#attached.push(session);
  }

  /** Those that attached after the place and are there still. */
  since(place: number): Session[] {
    return this.#attached.slice(this.#firstAfter(place)).filter(lives);
  }

  opened(): void {
    this.#openCount += 1;
  }

  /** So many are open no longer: forgets whoever attached before the oldest that is. */
  closed(count: number): void {
    this.#openCount -= count;
    if (this.#attached.length === 0) return;
    let oldest = this.#lastPlace;
    for (const publisher of this.#publishers) oldest = Math.min(oldest, publisher.oldestPlace);
    this.#attached.splice(0, this.#firstAfter(oldest));
  }

  ended(publisher: OpenCommits): void {
    this.#publishers.delete(publisher);
  }

  #firstAfter(place: number): number {
    let at = this.#attached.length;
    while (at > 0 && (this.#attached[at - 1]?.place ?? 0) > place) at -= 1;
    return at;
  }
}

/** Those of one publisher's stream. */
export class OpenCommits {
  readonly #all: Commits;
  readonly #max: number;
  readonly #open = new Map<bigint, OpenCommit>();
  #publications = 0;

  constructor(all: Commits, max: number) {
    this.#all = all;
    this.#max = max;
  }

  /** Infinity: none is open. */
  get oldestPlace(): number {
    return this.#open.values().next().value?.place ?? Infinity;
  }

  /** A publication of the commit was routed to these. */
  passed(commit: bigint, userIds: readonly string[]): void {
    if (this.#publications >= this.#max)
      throw overloaded(`${this.#max} publications wait for their commits to be indexed`);
    this.#publications += 1;
    const open = this.#open.get(commit);
    if (open !== undefined) {
      open.userIds.push(userIds);
      return;
    }
    this.#open.set(commit, { place: this.#all.lastPlace, userIds: [userIds] });
    this.#all.opened();
  }

  /** Answers the sessions of the commit's users that attached since it passed. One that is not open is indexed long since. */
  indexed(commit: bigint): Session[] {
    const open = this.#open.get(commit);
    if (open === undefined) return [];
    this.#open.delete(commit);
    this.#publications -= open.userIds.length;
    const late = this.#all.since(open.place);
    this.#all.closed(1);
    if (late.length === 0) return late;
    const lateUsers = new Set(late.map(({ userId }) => userId));
    const missed = new Set<string>();
    for (const userIds of open.userIds)
      for (const userId of userIds) if (lateUsers.has(userId)) missed.add(userId);
    return late.filter(({ userId }) => missed.has(userId));
  }

  /** The stream ended: the publisher tells everybody to sync when it is back. */
  end(): void {
    const count = this.#open.size;
    this.#open.clear();
    this.#all.ended(this);
    this.#all.closed(count);
  }
}

function lives(session: Session): boolean {
  return session.gateway.sessions.get(session.connection) === session;
}
