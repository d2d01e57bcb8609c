/** Who is online, until when the others have grace, when they were last seen, and who watches them. It must not know about streams or timers. */
import type { Presence } from "../proto/gen/parley/v1/record_pb.ts";
import { Availability } from "../proto/gen/parley/v1/record_pb.ts";
import type { Watcher } from "./ports.ts";

/** A user who is online, watched, or whose last-seen time is not kept yet; nobody else has a place in memory. */
export interface Person {
  readonly userId: string;
  /** "leaving" is online for all others: the last session ended, the grace is running. */
  state: "online" | "leaving" | "offline";
  /** By how many sources he is online; mostly one, or none. */
  sources: number;
  /** The source that told the end of the last session, while he is leaving. */
  leftBy: Source | undefined;
  /** When the last session ended; 0: not known, or never. */
  lastSeenMs: number;
  watches: Set<Watch> | undefined;
}

/** What one session instance told: who has a session there. A user is online when any source says so. */
export interface Source {
  online: Set<Person>;
  /** While it tells everybody anew: those of before whom it has not told yet. */
  unlisted: Set<Person>;
  /** Whether it tells of every change now. While it does not, what it told holds. */
  heard: boolean;
}

/** A session instance is there; nothing is known of it yet. */
export const newSource = (): Source => ({ online: new Set(), unlisted: new Set(), heard: false });

/** Whom one connection watches. */
export interface Watch {
  readonly watcher: Watcher;
  readonly connection: number;
  people: Person[];
  /** False until the present set's snapshot is taken: changes before that are part of it. */
  answered: boolean;
  ended: boolean;
}

/** The present moment: by the calendar, and on the clock that never goes back. */
export interface Moment {
  readonly nowMs: number;
  readonly monotonicMs: number;
}

export interface RosterLimits {
  /** From the last session's end to offline. */
  readonly graceMs: number;
  /** Last-seen times that wait to be kept; beyond that the oldest are given up. */
  readonly unsavedMax: number;
}

export class Roster {
  readonly #people = new Map<string, Person>();
  /** When each grace ends. As all graces are equally long, the order of coming is the order of ending. */
  readonly #leaving = new Map<Person, number>();
  /** Their grace is over, but they may be back where nobody is heard from. */
  readonly #held = new Set<Person>();
  readonly #unsaved = new Map<string, number>();
  readonly #limits: RosterLimits;

  constructor(limits: RosterLimits) {
    this.#limits = limits;
  }

  /** The user has a session there. */
  online(source: Source, userId: string): void {
    const person = this.#person(userId);
    const count = source.online.size;
    source.online.add(person);
    if (!source.unlisted.delete(person) && source.online.size > count) person.sources += 1;
    const before = person.state;
    if (before === "online") return;
    this.#stay(person);
    person.state = "online";
    if (before === "offline") this.#changed(person);
  }

  /** The user's last session there ended just now: the grace begins, where it was the last of all. One who came and went unseen has it, too. */
  offline(source: Source, userId: string, moment: Moment): void {
    const person = this.#person(userId);
    if (source.online.delete(person) || source.unlisted.delete(person)) person.sources -= 1;
    if (person.sources === 0) this.#leave(person, source, moment);
  }

  /** A list of everybody online there begins, because nothing was heard for a while. */
  beginList(source: Source): void {
    source.heard = false;
    const { online, unlisted } = source;
    if (unlisted.size === 0) source.unlisted = online;
    else for (const person of online) unlisted.add(person);
    source.online = new Set();
  }

  /** The list is complete: those who were online and are not in it left some time since; their grace begins. */
  endList(source: Source, moment: Moment): void {
    this.#leaveAll(source.unlisted, source, moment);
    source.unlisted = new Set();
    source.heard = true;
  }

  /**
   * The instance is gone: whoever was online there has the grace from now on, to come elsewhere. Where it was not heard at its end, so has
   * whoever was leaving and may have been back there: those who left by it, and those who `mayBeThere`.
   */
  gone(source: Source, moment: Moment, mayBeThere: (person: Person) => boolean): void {
    if (!source.heard)
      for (const person of [...this.#leaving.keys(), ...this.#held])
        if (person.leftBy === source || mayBeThere(person)) this.#grace(person, source, moment);
    this.#leaveAll(source.online, source, moment);
    this.#leaveAll(source.unlisted, source, moment);
    source.online = new Set();
    source.unlisted = new Set();
    // Nothing more is to be waited for.
    source.heard = true;
  }

  /** Forgets everybody else without a word: others tell of them now. Whoever watches one of them is told that. */
  keepOnly(isOurs: (userId: string) => boolean): void {
    const watchers = new Set<Watcher>();
    for (const person of this.#people.values()) {
      if (isOurs(person.userId)) continue;
      for (const { watcher } of person.watches ?? []) watchers.add(watcher);
      this.#stay(person);
      person.state = "offline";
      // What sources still have of it goes with their next list, and counts for nobody.
      person.sources = 0;
      this.#people.delete(person.userId);
    }
    for (const watcher of watchers) watcher.moved();
  }

  /** When `expire` has something to do; undefined: nobody is leaving. */
  get nextDeadlineMs(): number | undefined {
    return this.#leaving.values().next().value;
  }

  /** Those whose grace is over are offline, or, where they may not be yet, until `release` asks again. */
  expire(monotonicMs: number, mayEnd: (person: Person) => boolean): void {
    for (const [person, deadlineMs] of this.#leaving) {
      if (deadlineMs > monotonicMs) return;
      this.#leaving.delete(person);
      if (mayEnd(person)) this.#end(person);
      else this.#held.add(person);
    }
  }

  /** Whether their grace ends may be otherwise now. */
  release(mayEnd: (person: Person) => boolean): void {
    for (const person of this.#held) if (mayEnd(person)) this.#end(person);
  }

  /** A connection begins to watch: nobody yet. */
  watch(watcher: Watcher, connection: number): Watch {
    return { watcher, connection, people: [], answered: false, ended: false };
  }

  /** Replaces whom it watches. Answers those of whom nothing is known here: when they were last seen is for storage to say. */
  set(watch: Watch, userIds: readonly string[]): string[] {
    const before = watch.people;
    watch.answered = false;
    // The new ones first: who is in both sets must not be forgotten in between.
    for (const person of before) person.watches?.delete(watch);
    watch.people = [...new Set(userIds)].map((userId) => this.#person(userId));
    for (const person of watch.people) (person.watches ??= new Set()).add(watch);
    for (const person of before) this.#forget(person);
    return watch.people
      .filter((person) => person.state === "offline" && person.lastSeenMs === 0)
      .map((person) => person.userId);
  }

  /** The connection ended. */
  unwatch(watch: Watch): void {
    this.set(watch, []);
    watch.ended = true;
  }

  /** What storage knows. */
  learn(userId: string, lastSeenMs: number): void {
    const person = this.#people.get(userId);
    if (person !== undefined && lastSeenMs > person.lastSeenMs) person.lastSeenMs = lastSeenMs;
  }

  /** How it is now; undefined: online or not is known (not), when last seen is not. */
  find(userId: string): Presence | undefined {
    const person = this.#people.get(userId);
    if (person === undefined || (person.state === "offline" && person.lastSeenMs === 0))
      return undefined;
    return presenceOf(person);
  }

  /** The oldest of the last-seen times that are not kept yet. */
  unsaved(max: number): [userId: string, lastSeenMs: number][] {
    const some: [string, number][] = [];
    for (const seen of this.#unsaved) {
      if (some.length === max) break;
      some.push(seen);
    }
    return some;
  }

  /** These are kept now. */
  saved(seen: readonly [userId: string, lastSeenMs: number][]): void {
    for (const [userId, lastSeenMs] of seen) {
      if (this.#unsaved.get(userId) !== lastSeenMs) continue;
      this.#unsaved.delete(userId);
      const person = this.#people.get(userId);
      if (person !== undefined) this.#forget(person);
    }
  }

  /** It is going to forget everything: whoever is online was seen just now. */
  seenAll(nowMs: number): void {
    for (const person of this.#people.values())
      if (person.state === "online") this.#seen(person, nowMs);
  }

  /** What it holds; all 0 when everybody is gone and that is kept. */
  get size(): { people: number; leaving: number; unsaved: number } {
    const people = this.#people.size;
    return { people, leaving: this.#leaving.size + this.#held.size, unsaved: this.#unsaved.size };
  }

  #person(userId: string): Person {
    const known = this.#people.get(userId);
    if (known !== undefined) return known;
    const person: Person = {
      userId,
      state: "offline",
      sources: 0,
      leftBy: undefined,
      lastSeenMs: 0,
      watches: undefined,
    };
    this.#people.set(userId, person);
    return person;
  }

  #leaveAll(people: Iterable<Person>, source: Source, moment: Moment): void {
    for (const person of people) {
      person.sources -= 1;
      if (person.sources === 0) this.#leave(person, source, moment);
    }
  }

  #leave(person: Person, source: Source, moment: Moment): void {
    const before = person.state;
    person.state = "leaving";
    this.#grace(person, source, moment);
    this.#seen(person, moment.nowMs);
    if (before === "offline") this.#changed(person);
  }

  #grace(person: Person, source: Source, { monotonicMs }: Moment): void {
    this.#stay(person);
    person.leftBy = source;
    this.#leaving.set(person, monotonicMs + this.#limits.graceMs);
  }

  #stay(person: Person): void {
    this.#leaving.delete(person);
    this.#held.delete(person);
    person.leftBy = undefined;
  }

  #end(person: Person): void {
    this.#stay(person);
    person.state = "offline";
    this.#changed(person);
    this.#forget(person);
  }

  #seen(person: Person, nowMs: number): void {
    person.lastSeenMs = Math.max(person.lastSeenMs, nowMs);
    if (this.#unsaved.size >= this.#limits.unsavedMax) {
      const oldest = this.#unsaved.keys().next().value;
      if (oldest !== undefined) this.#giveUp(oldest);
    }
    // Again at the end of the line: what is being kept now may be older.
    this.#unsaved.delete(person.userId);
    this.#unsaved.set(person.userId, person.lastSeenMs);
  }

  #giveUp(userId: string): void {
    this.#unsaved.delete(userId);
    const person = this.#people.get(userId);
    if (person !== undefined) this.#forget(person);
  }

  #changed(person: Person): void {
    if (person.watches === undefined) return;
    for (const watch of person.watches) if (watch.answered) watch.watcher.changed(person);
  }

  #forget(person: Person): void {
    if (person.watches?.size === 0) person.watches = undefined;
    if (person.state !== "offline" || person.watches !== undefined) return;
    if (this.#unsaved.has(person.userId)) return;
    this.#people.delete(person.userId);
  }
}

/** As the others see it. */
export function presenceOf({ userId, state, lastSeenMs }: Person): Presence {
  const offline = state === "offline";
  return {
    $typeName: "parley.v1.Presence",
    userId,
    availability: offline ? Availability.OFFLINE : Availability.ONLINE,
    lastSeenMs: BigInt(offline ? lastSeenMs : 0),
  };
}
