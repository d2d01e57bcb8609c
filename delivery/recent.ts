/** The sends that a conversation took last, to find one that comes twice. Pure. */

/** An earlier message, or the one just made. */
export interface Place {
  readonly seq: number;
  readonly timeMs: number;
}

/** A client_id (16 bytes) as four numbers. It is unique for its sender only. */
interface Taken extends Place {
  readonly senderId: string;
  readonly second: number;
  readonly third: number;
  readonly fourth: number;
}

/** What is remembered of first tries that come twice. */
const recentMax = 64;
/** So many more gather before they are forgotten together. */
const slack = 32;

function word(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] ?? 0) << 24) |
    ((bytes[at + 1] ?? 0) << 16) |
    ((bytes[at + 2] ?? 0) << 8) |
    (bytes[at + 3] ?? 0)
  );
}

/** In the order of their seqs. Every message passes here: a list that is searched costs less than a map and its keys. */
export class RecentSends {
  readonly #taken: Taken[] = [];
  /** The first quarter of each one's client_id. */
  readonly #firsts: number[] = [];

  find(senderId: string, clientId: Uint8Array): Place | undefined {
    const first = word(clientId, 0);
    for (
      let at = this.#firsts.indexOf(first);
      at !== -1;
      at = this.#firsts.indexOf(first, at + 1)
    ) {
      const taken = this.#taken[at];
      if (
        taken?.second === word(clientId, 4) &&
        taken.third === word(clientId, 8) &&
        taken.fourth === word(clientId, 12) &&
        taken.senderId === senderId
      )
        return taken;
    }
    return undefined;
  }

  add(senderId: string, clientId: Uint8Array, seq: number, timeMs: number): Place {
    const taken: Taken = {
      seq,
      timeMs,
      senderId,
      second: word(clientId, 4),
      third: word(clientId, 8),
      fourth: word(clientId, 12),
    };
    this.#taken.push(taken);
    this.#firsts.push(word(clientId, 0));
    return taken;
  }

  /** Forgets old ones, but none above `seq`. */
  forget(seq: number): void {
    const over = this.#taken.length - recentMax;
    if (over < slack) return;
    let count = 0;
    while (count < over && (this.#taken[count]?.seq ?? Infinity) <= seq) count += 1;
    this.#taken.splice(0, count);
    this.#firsts.splice(0, count);
  }
}
