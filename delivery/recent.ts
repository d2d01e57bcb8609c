/** The sends that a conversation took last, to find one that comes twice. Pure. */

/** An earlier message, or the one just made. */
export interface Place {
  readonly seq: number;
  readonly timeMs: number;
}

/** What is remembered of first tries that come twice. */
const recentMax = 64;
/** The same while tries come that are not the first, as after a takeover: each that memory cannot answer costs a search of the log. */
const retriedMax = 512;
/** So many gather before the marks of those forgotten go, together. */
const slack = 32;
const leastCapacity = 4;
const markWords = 32;

/** A quarter of a client_id as a whole number, which in a list costs no memory but its place. */
function word(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] ?? 0) << 24) |
    ((bytes[at + 1] ?? 0) << 16) |
    ((bytes[at + 2] ?? 0) << 8) |
    (bytes[at + 3] ?? 0)
  );
}

/**
 * A ring, in the order of seqs, in lists of plain numbers: every message passes here and stays a while, which objects of its own would
 * make the garbage collector's work. Hardly any is an earlier one: one look at the marks tells so of most.
 */
export class RecentSends {
  /** A power of 2. */
  #capacity = 0;
  #start = 0;
  #count = 0;
  /** Four of each: its client_id, which is unique for its sender only. */
  #words: number[] = [];
  /** Two of each: seq and time. */
  #places: number[] = [];
  #senderIds: string[] = [];
  /** A bit for each, at the place that the low ten bits of its first word name; those forgotten last have theirs, too. */
  #marks: number[] = [];
  #forgotten = 0;
  #max = recentMax;

  find(senderId: string, clientId: Uint8Array): Place | undefined {
    const first = word(clientId, 0);
    if (!this.#isMarked(first)) return undefined;
    for (let nth = 0; nth < this.#count; nth += 1) {
      const slot = this.#slot(nth);
      if (this.#words[4 * slot] !== first || this.#senderIds[slot] !== senderId) continue;
      if (!this.#hasRest(slot, clientId)) continue;
      return { seq: this.#places[2 * slot] ?? 0, timeMs: this.#places[2 * slot + 1] ?? 0 };
    }
    return undefined;
  }

  add(senderId: string, clientId: Uint8Array, seq: number, timeMs: number): void {
    if (this.#count === this.#capacity) this.#resize(Math.max(leastCapacity, 2 * this.#capacity));
    if (this.#max > recentMax) this.#max -= 1;
    const slot = this.#slot(this.#count);
    this.#count += 1;
    const first = word(clientId, 0);
    this.#words[4 * slot] = first;
    this.#words[4 * slot + 1] = word(clientId, 4);
    this.#words[4 * slot + 2] = word(clientId, 8);
    this.#words[4 * slot + 3] = word(clientId, 12);
    this.#places[2 * slot] = seq;
    this.#places[2 * slot + 1] = timeMs;
    this.#senderIds[slot] = senderId;
    this.#mark(first);
  }

  /** A send came again: others will. Fewer are remembered again by and by. */
  retried(): void {
    this.#max = retriedMax;
  }

  /** Forgets old ones, but none above `seq`. Answers with the seq of the last one forgotten now; 0: none. */
  forget(seq: number): number {
    let last = 0;
    while (this.#count > this.#max) {
      const first = this.#places[2 * this.#start] ?? 0;
      if (first > seq) break;
      last = first;
      this.#start = this.#slot(1);
      this.#count -= 1;
      this.#forgotten += 1;
    }
    if (this.#forgotten >= slack) this.#tidy();
    return last;
  }

  #tidy(): void {
    this.#forgotten = 0;
    if (this.#count <= recentMax && this.#capacity > 2 * recentMax) this.#resize(2 * recentMax);
    this.#marks.fill(0);
    for (let nth = 0; nth < this.#count; nth += 1)
      this.#mark(this.#words[4 * this.#slot(nth)] ?? 0);
  }

  #slot(nth: number): number {
    return (this.#start + nth) & (this.#capacity - 1);
  }

  #hasRest(slot: number, clientId: Uint8Array): boolean {
    return (
      this.#words[4 * slot + 1] === word(clientId, 4) &&
      this.#words[4 * slot + 2] === word(clientId, 8) &&
      this.#words[4 * slot + 3] === word(clientId, 12)
    );
  }

  /** Lists stay without holes: the oldest one moves to the front, and what is left is filled. */
  #resize(capacity: number): void {
    const at = this.#start;
    const resized = <T>(list: T[], each: number, nothing: T): T[] => {
      const turned = [...list.slice(each * at), ...list.slice(0, each * at)];
      const kept = turned.slice(0, each * capacity);
      const more = each * capacity - kept.length;
      return more === 0 ? kept : kept.concat(Array.from({ length: more }, () => nothing));
    };
    this.#words = resized(this.#words, 4, 0);
    this.#places = resized(this.#places, 2, 0);
    this.#senderIds = resized(this.#senderIds, 1, "");
    this.#capacity = capacity;
    this.#start = 0;
  }

  #isMarked(first: number): boolean {
    const bits = this.#marks[(first >>> 5) % markWords] ?? 0;
    return ((bits >>> (first & 31)) & 1) === 1;
  }

  #mark(first: number): void {
    if (this.#marks.length === 0) this.#marks = Array.from({ length: markWords }, () => 0);
    const at = (first >>> 5) % markWords;
    this.#marks[at] = (this.#marks[at] ?? 0) | (1 << (first & 31));
  }
}
