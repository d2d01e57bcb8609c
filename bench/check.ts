/** Finds lost, doubled and reordered messages: the receiver's side of one sender's stream, and a conversation's seqs. */

/** All zeros: nothing went wrong. */
export interface Faults {
  /** Acked as sent and not received, or not in the history. */
  lost: number;
  /** Received twice, or acked as a duplicate at the first try. */
  doubled: number;
  /** Received after a later one. */
  reordered: number;
  /** Sent and never answered. */
  unanswered: number;
  /** Failure frames, and connections that were lost. */
  failed: number;
  /** Senders who were not told how far their messages were delivered. */
  untold: number;
  /** The first few faults, in words. */
  examples: string[];
}

export const faultKinds = [
  "lost",
  "doubled",
  "reordered",
  "unanswered",
  "failed",
  "untold",
] as const;

export const noFaults = (): Faults => ({
  lost: 0,
  doubled: 0,
  reordered: 0,
  unanswered: 0,
  failed: 0,
  untold: 0,
  examples: [],
});

export const faultCount = (faults: Faults): number =>
  faultKinds.reduce((sum, kind) => sum + faults[kind], 0);

const examplesMax = 8;

export function addExample(faults: Faults, text: string): void {
  if (faults.examples.length < examplesMax) faults.examples.push(text);
}

export function addFaults(into: Faults, more: Faults): void {
  for (const kind of faultKinds) into[kind] += more[kind];
  for (const example of more.examples) addExample(into, example);
}

/** What one receiver has got of one sender's messages, which count 0, 1, 2 … */
export class StreamCheck {
  #next = 0;
  #missing = new Set<number>();
  /** Different messages received. */
  received = 0;
  doubled = 0;
  reordered = 0;

  take(counter: number): void {
    if (counter === this.#next) {
      this.#next++;
      this.received++;
    } else if (counter > this.#next) {
      for (let hole = this.#next; hole < counter; hole++) this.#missing.add(hole);
      this.#next = counter + 1;
      this.received++;
    } else if (this.#missing.delete(counter)) {
      this.received++;
      this.reordered++;
    } else this.doubled++;
  }

  /** How many of the first `sent` messages are not here, `excused` of them for a reason that is counted elsewhere. */
  lost(sent: number, excused: number): number {
    return Math.max(0, sent - this.received - excused);
  }
}

/** Seqs of one conversation as one connection learns them: pushed in order, and those of its own messages from their acks. */
export class SeqCheck {
  #lastPushed = 0;
  #lastSent = 0;
  #count = 0;
  #sum = 0;
  #head = 0;
  reordered = 0;

  pushed(seq: number): void {
    if (seq <= this.#lastPushed) this.reordered++;
    else this.#lastPushed = seq;
    this.#note(seq);
  }

  sent(seq: number): void {
    if (seq <= this.#lastSent) this.reordered++;
    else this.#lastSent = seq;
    this.#note(seq);
  }

  get head(): number {
    return this.#head;
  }

  get lastSent(): number {
    return this.#lastSent;
  }

  /** True once every seq from 1 to the head came exactly once. */
  get contiguous(): boolean {
    return this.#count === this.#head && this.#sum === (this.#head * (this.#head + 1)) / 2;
  }

  #note(seq: number): void {
    this.#count++;
    this.#sum += seq;
    if (seq > this.#head) this.#head = seq;
  }
}
