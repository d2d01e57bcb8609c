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

const markWords = 32;

/**
 * In the order of their seqs. Every message passes here, and is hardly ever an earlier one: one look at the marks tells so of most,
 * which costs less than a map and its keys.
 */
export class RecentSends {
  #taken: Taken[] = [];
  /** The first quarter of each one's client_id. */
  #firsts: number[] = [];
  /** A bit for each of them, at the place that its low ten bits name. */
  #marks: number[] = [];

  find(senderId: string, clientId: Uint8Array): Place | undefined {
    const first = word(clientId, 0);
    if (!this.#isMarked(first)) return undefined;
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
    const first = word(clientId, 0);
    this.#taken.push(taken);
    this.#firsts.push(first);
    this.#mark(first);
    return taken;
  }

  /** Forgets old ones, but none above `seq`. */
  forget(seq: number): void {
    const over = this.#taken.length - recentMax;
    if (over < slack) return;
    let count = 0;
    while (count < over && (this.#taken[count]?.seq ?? Infinity) <= seq) count += 1;
    if (count === 0) return;
    this.#taken = this.#taken.slice(count);
    this.#firsts = this.#firsts.slice(count);
    this.#marks.fill(0);
    for (const first of this.#firsts) this.#mark(first);
  }

  #isMarked(first: number): boolean {
    const bits = this.#marks[(first >>> 5) % markWords] ?? 0;
    return ((bits >>> (first & 31)) & 1) === 1;
  }

  #mark(first: number): void {
    if (this.#marks.length === 0) this.#marks = Array.from({ length: markWords }, () => 0);
    const word = (first >>> 5) % markWords;
    this.#marks[word] = (this.#marks[word] ?? 0) | (1 << (first & 31));
  }
}
