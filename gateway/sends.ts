/** Keeps a device's sends into one conversation in their order when one of them was refused for now. Pure: it is told what happens and when. */

/** For how long later sends are held back for one that does not come again. */
const heldBackMs = 10_000;
const clientIdsMax = 1_024;

interface Refused {
  /** Places by client_id, one character a byte. */
  readonly places: Map<string, number>;
  untilMs: number;
}

const keyOf = (clientId: Uint8Array): string => Buffer.from(clientId).toString("latin1");

/** A try of a send, in the list of those that its connection has under way. */
export interface SendUnderWay {
  readonly conversationId: string;
  readonly clientId: Buffer;
  readonly place: number;
  /** Set by the list. */
  older: SendUnderWay | undefined;
  newer: SendUnderWay | undefined;
}

/** What a connection has under way, linked so that the many that never come again cost next to nothing. */
export class SendsUnderWay {
  #newest: SendUnderWay | undefined;

  begin(one: SendUnderWay): void {
    one.older = this.#newest;
    if (one.older !== undefined) one.older.newer = one;
    this.#newest = one;
  }

  /** Whether it began or not. */
  end(one: SendUnderWay): void {
    const { older, newer } = one;
    if (newer !== undefined) newer.older = older;
    else if (this.#newest === one) this.#newest = older;
    if (older !== undefined) older.newer = newer;
    one.older = one.newer = undefined;
  }

  /** The place of an earlier try that has no outcome yet; undefined: there is none. */
  placeOf(conversationId: string, clientId: Buffer): number | undefined {
    for (let one = this.#newest; one !== undefined; one = one.older)
      if (one.conversationId === conversationId && one.clientId.equals(clientId)) return one.place;
    return undefined;
  }
}

/**
 * A send that was refused for now comes again; one that was sent after it must not get before it meanwhile. So those into that conversation
 * are refused, too, also where they come again, until all that were sent before them have come again or the time is over.
 */
export class SendOrder {
  readonly #conversations = new Map<string, Refused>();

  /** The place among the connection's sends that one had when it was refused; undefined: it was not. */
  placeOf(conversationId: string, clientId: Uint8Array): number | undefined {
    return this.#conversations.get(conversationId)?.places.get(keyOf(clientId));
  }

  /** Whether the send may go on. */
  mayGo(conversationId: string, clientId: Uint8Array, place: number, nowMs: number): boolean {
    const refused = this.#conversations.get(conversationId);
    if (refused === undefined) return true;
    if (nowMs >= refused.untilMs) {
      this.#conversations.delete(conversationId);
      return true;
    }
    const { places } = refused;
    const key = keyOf(clientId);
    for (const before of places.values()) {
      if (before >= place) continue;
      if (places.size < clientIdsMax) places.set(key, place);
      return false;
    }
    places.delete(key);
    if (places.size === 0) this.#conversations.delete(conversationId);
    return true;
  }

  /** A send that had gone on was refused for now. */
  refused(conversationId: string, clientId: Uint8Array, place: number, nowMs: number): void {
    const untilMs = nowMs + heldBackMs;
    const refused = this.#conversations.get(conversationId);
    if (refused === undefined) {
      this.#conversations.set(conversationId, {
        places: new Map([[keyOf(clientId), place]]),
        untilMs,
      });
      return;
    }
    refused.places.set(keyOf(clientId), place);
    refused.untilMs = untilMs;
  }

  /** Forgets what is over. */
  tidy(nowMs: number): void {
    for (const [conversationId, { untilMs }] of this.#conversations) {
      if (nowMs >= untilMs) this.#conversations.delete(conversationId);
    }
  }

  get size(): number {
    return this.#conversations.size;
  }
}
