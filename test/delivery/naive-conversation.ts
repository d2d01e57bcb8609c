/** A conversation as one would write it who cares for nothing but being right: a list of all that happened, read from its beginning for each answer. */

export interface Entry {
  readonly senderId: string;
  /** Undefined for what is no message. */
  readonly message: string | undefined;
  readonly clientId: string;
  readonly timeMs: number;
  readonly term: bigint;
  readonly added: readonly string[];
  readonly removed: readonly string[];
  readonly title: string | undefined;
}

/** What a member said that it has, when the log had `atSeq` records. */
export interface Said {
  readonly userId: string;
  readonly atSeq: number;
  readonly delivered: number;
  readonly read: number;
}

export interface Membership {
  readonly floorSeq: number;
  readonly leftSeq: number;
  readonly deliveredSeq: number;
  readonly readSeq: number;
  readonly readOrdinal: number;
}

export class NaiveConversation {
  readonly #firstMembers: readonly string[];
  log: Entry[] = [];
  said: Said[] = [];
  /** Those of the sends that whoever owns it now took, or took over. */
  rememberedFrom = 0;

  /** `firstMembers`: of a direct conversation, from its first record on. */
  constructor(firstMembers: readonly string[]) {
    this.#firstMembers = firstMembers;
  }

  get title(): string {
    return this.log.findLast(({ title }) => title !== undefined)?.title ?? "";
  }

  ordinal(seq: number): number {
    return this.log.slice(0, seq).filter(({ message }) => message !== undefined).length;
  }

  /** The seq of an earlier try; 0 where there is none. */
  earlier(senderId: string, clientId: string): number {
    const index = this.log.findIndex(
      (one, at) =>
        at >= this.rememberedFrom && one.senderId === senderId && one.clientId === clientId,
    );
    return index + 1;
  }

  /** All who are or were members. */
  members(): Map<string, Membership> {
    const places = new Map<string, { floorSeq: number; leftSeq: number }>();
    for (const userId of this.#firstMembers) places.set(userId, { floorSeq: 1, leftSeq: 0 });
    for (const [at, { added, removed }] of this.log.entries()) {
      for (const userId of removed) {
        const place = places.get(userId);
        if (place?.leftSeq === 0) place.leftSeq = at + 1;
      }
      for (const userId of added)
        if (places.get(userId)?.leftSeq !== 0) places.set(userId, { floorSeq: at + 1, leftSeq: 0 });
    }
    return new Map(
      Array.from(places, ([userId, place]) => [
        userId,
        { ...place, ...this.#cursors(userId, place.floorSeq) },
      ]),
    );
  }

  present(members = this.members()): string[] {
    return [...members].filter(([, { leftSeq }]) => leftSeq === 0).map(([id]) => id);
  }

  /** The least cursor of all who are there, and the least of those without the first one who has it. */
  least(
    cursor: "deliveredSeq" | "readSeq",
    members: ReadonlyMap<string, Membership>,
  ): { seq: number; others: Map<string, number> } {
    const there = [...members].filter(([, { leftSeq }]) => leftSeq === 0);
    const of = (some: typeof there): number =>
      some.length === 0 ? this.log.length : Math.min(...some.map(([, one]) => one[cursor]));
    const others = there.map(
      ([userId]) => [userId, of(there.filter(([other]) => other !== userId))] as const,
    );
    return { seq: there.length === 0 ? 0 : of(there), others: new Map(others) };
  }

  /** The furthest of where it joined, what it wrote since, and what it said since. */
  #cursors(
    userId: string,
    floorSeq: number,
  ): { deliveredSeq: number; readSeq: number; readOrdinal: number } {
    const wrote = this.log.flatMap(({ senderId, message }, at) =>
      senderId === userId && message !== undefined && at + 1 >= floorSeq ? [at + 1] : [],
    );
    const since = this.said.filter((one) => one.userId === userId && one.atSeq >= floorSeq);
    const readSeq = Math.max(floorSeq - 1, ...wrote, ...since.map(({ read }) => read));
    const deliveredSeq = Math.max(readSeq, ...since.map(({ delivered }) => delivered));
    return { deliveredSeq, readSeq, readOrdinal: this.ordinal(readSeq) };
  }
}
