/** What was pushed to a device and not acked by it. Pure: it is told what happens and when. */

interface Entry {
  fromSeq: number;
  toSeq: number;
  /** When the oldest of it was pushed, or pushed last. */
  sinceMs: number;
  tries: number;
}

/** Of one conversation, for operators. */
export interface Unsettled {
  readonly fromSeq: number;
  readonly toSeq: number;
  /** Since it was pushed, or pushed last. */
  readonly forMs: number;
  readonly tries: number;
}

/** Conversations beyond this many are not watched: their loss shows in the heartbeats' sums. */
const conversationsMax = 4_096;

export class Unacked {
  readonly #entries = new Map<string, Entry>();

  get size(): number {
    return this.#entries.size;
  }

  pushed(conversationId: string, seq: number, nowMs: number): void {
    const entry = this.#entries.get(conversationId);
    if (entry !== undefined) {
      if (seq > entry.toSeq) entry.toSeq = seq;
      return;
    }
    if (this.#entries.size >= conversationsMax) return;
    this.#entries.set(conversationId, { fromSeq: seq, toSeq: seq, sinceMs: nowMs, tries: 0 });
  }

  acked(conversationId: string, deliveredSeq: number, nowMs: number): void {
    const entry = this.#entries.get(conversationId);
    if (entry === undefined || deliveredSeq < entry.fromSeq) return;
    if (deliveredSeq >= entry.toSeq) {
      this.#entries.delete(conversationId);
      return;
    }
    entry.fromSeq = deliveredSeq + 1;
    entry.sinceMs = nowMs;
    entry.tries = 0;
  }

  of(conversationId: string, nowMs: number): Unsettled | undefined {
    const entry = this.#entries.get(conversationId);
    if (entry === undefined) return undefined;
    const { fromSeq, toSeq, sinceMs, tries } = entry;
    return { fromSeq, toSeq, forMs: Math.floor(nowMs - sinceMs), tries };
  }

  /** Tells `again` what is to be pushed once more. False where the device had all its tries. */
  due(
    nowMs: number,
    retryMs: number,
    triesMax: number,
    again: (conversationId: string, fromSeq: number) => void,
  ): boolean {
    for (const [conversationId, entry] of this.#entries) {
      if (nowMs - entry.sinceMs < retryMs * 2 ** entry.tries) continue;
      if (entry.tries >= triesMax) return false;
      entry.tries += 1;
      entry.sinceMs = nowMs;
      again(conversationId, entry.fromSeq);
    }
    return true;
  }
}
