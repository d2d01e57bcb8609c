/** Keeps a device's sends into one conversation in their order when one of them was refused for now. Pure: it is told what happens and when. */

/** For how long later sends are held back for one that does not come again. */
const heldBackMs = 10_000;
const clientIdsMax = 1_024;

interface Refused {
  /** client_ids, one character a byte. */
  readonly clientIds: Set<string>;
  untilMs: number;
}

const keyOf = (clientId: Uint8Array): string => Buffer.from(clientId).toString("latin1");

/**
 * A send that was refused for now comes again; one that was sent after it must not get before it meanwhile. So first tries into that
 * conversation are refused, too, until all refused ones have come again or the time is over.
 */
export class SendOrder {
  readonly #conversations = new Map<string, Refused>();

  /** Whether the send may go on. */
  mayGo(conversationId: string, clientId: Uint8Array, retry: boolean, nowMs: number): boolean {
    if (this.#conversations.size === 0) return true;
    const refused = this.#conversations.get(conversationId);
    if (refused === undefined) return true;
    const key = keyOf(clientId);
    if (retry || refused.clientIds.has(key)) {
      refused.clientIds.delete(key);
      if (refused.clientIds.size === 0) this.#conversations.delete(conversationId);
      return true;
    }
    if (nowMs >= refused.untilMs) {
      this.#conversations.delete(conversationId);
      return true;
    }
    if (refused.clientIds.size < clientIdsMax) refused.clientIds.add(key);
    return false;
  }

  /** A send that had gone on was refused for now. */
  refused(conversationId: string, clientId: Uint8Array, nowMs: number): void {
    const untilMs = nowMs + heldBackMs;
    const refused = this.#conversations.get(conversationId);
    if (refused === undefined) {
      const clientIds = new Set([keyOf(clientId)]);
      this.#conversations.set(conversationId, { clientIds, untilMs });
      return;
    }
    refused.clientIds.add(keyOf(clientId));
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
