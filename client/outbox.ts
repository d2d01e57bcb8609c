/**
 * Messages on their way: in order for each conversation, many under way, each tried until it is sent or refused for good.
 * It decides and keeps the order; sending, waiting and storing are the sender's.
 */
import { toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { SendRequestSchema, type SendRequest } from "../proto/gen/parley/v1/chat_pb.ts";
import { isRetryable } from "./calls.ts";

export interface Outgoing {
  readonly clientId: string;
  /** Where it stands among all messages of the device. */
  order: number;
  readonly request: SendRequest;
  readonly bytes: number;
  /** It went out at least once, in this life of the process or an earlier one. */
  tried: boolean;
  /** Which try is under way or was the last one. */
  attempt: number;
  underWay: boolean;
  /** The try that is under way was sent behind one that was refused: it is expected to be, too, and the next one waits for that. */
  comesAgain: boolean;
  refusals: number;
  /** On the sender's clock. */
  notBeforeMs: number;
}

export interface OutboxLimits {
  readonly messagesMax: number;
  readonly bytesMax: number;
  readonly underWayMax: number;
}

export interface TakeView {
  /** Whether the link keeps the order of what is under way together. */
  readonly ordered: boolean;
  /** The conversation that a message goes to, however it is addressed. */
  keyOf(request: SendRequest): string;
  /** The head that the client knows. */
  headOf(conversation: string): number;
}

/** A server error that may pass is tried that often, and no more: it may as well be the message's own. */
const internalRefusalsMax = 5;
const internalCodes = new Set<number>([Code.Unknown, Code.Internal]);

export class Outbox {
  readonly #limits: OutboxLimits;
  readonly #entries = new Map<string, Outgoing>();
  #bytes = 0;
  #lastOrder = 0;

  constructor(limits: OutboxLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** In order. */
  entries(): Iterable<Outgoing> {
    return this.#entries.values();
  }

  get(clientId: string): Outgoing | undefined {
    return this.#entries.get(clientId);
  }

  /** Undefined: full. */
  add(clientId: string, request: SendRequest): Outgoing | undefined {
    const bytes = toBinary(SendRequestSchema, request).length;
    const full =
      this.#entries.size >= this.#limits.messagesMax || this.#bytes + bytes > this.#limits.bytesMax;
    return full ? undefined : this.#insert(clientId, request, this.#lastOrder + 1, bytes);
  }

  /** What an earlier life of the process left, in order: it may have been tried, and goes before all that was added since. */
  restore(kept: readonly { clientId: string; order: number; request: SendRequest }[]): void {
    const added = [...this.#entries.values()];
    this.#entries.clear();
    for (const { clientId, order, request } of kept) {
      const bytes = toBinary(SendRequestSchema, request).length;
      this.#insert(clientId, request, order, bytes).tried = true;
    }
    for (const entry of added) {
      this.#lastOrder += 1;
      entry.order = this.#lastOrder;
      this.#entries.set(entry.clientId, entry);
    }
  }

  /** What may go out now, marked as under way; the first try gets the head that is known now. */
  take(nowMs: number, view: TakeView): Outgoing[] {
    const taken: Outgoing[] = [];
    const held = new Set<string>();
    let room = this.#limits.underWayMax;
    for (const entry of this.#entries.values()) if (entry.underWay) room -= 1;
    for (const entry of this.#entries.values()) {
      if (room <= 0) break;
      const conversation = view.keyOf(entry.request);
      if (entry.comesAgain || (!entry.underWay && entry.notBeforeMs > nowMs))
        held.add(conversation);
      if (held.has(conversation)) continue;
      if (!view.ordered) held.add(conversation);
      if (entry.underWay) continue;
      this.#begin(entry, view.headOf(conversation));
      taken.push(entry);
      room -= 1;
    }
    return taken;
  }

  /** When `take` gives more, nothing else happening; undefined: not by waiting. */
  nextMs(nowMs: number): number | undefined {
    let soonest: number | undefined;
    for (const entry of this.#entries.values()) {
      if (entry.underWay || entry.notBeforeMs <= nowMs) continue;
      if (soonest === undefined || entry.notBeforeMs < soonest) soonest = entry.notBeforeMs;
    }
    return soonest;
  }

  remove(clientId: string): Outgoing | undefined {
    const entry = this.#entries.get(clientId);
    if (entry === undefined) return undefined;
    this.#entries.delete(clientId);
    this.#bytes -= entry.bytes;
    return entry;
  }

  /**
   * A try was refused. "final": it never will be sent, and is out of the outbox. "again": it waits `delayMs`, and what is
   * behind it in its conversation goes again after it, each when its own try has ended: of two tries that are under way the first one
   * could be refused for good and the second one taken. "stale": one before it decides.
   */
  refused(
    clientId: string,
    attempt: number,
    failure: { code: number; retryAfterMs: number },
    nowMs: number,
    delayMs: (refusals: number) => number,
    keyOf: TakeView["keyOf"],
  ): "final" | "again" | "stale" {
    const entry = this.#entries.get(clientId);
    if (entry === undefined) return "stale";
    const internal = internalCodes.has(failure.code);
    const again =
      isRetryable(failure) ||
      failure.code === Code.Unauthenticated ||
      (internal && entry.refusals + 1 < internalRefusalsMax);
    if (!again) {
      this.remove(clientId);
      return "final";
    }
    if (entry.attempt !== attempt || !entry.underWay) return "stale";
    entry.underWay = false;
    if (entry.comesAgain) {
      entry.comesAgain = false;
      return "stale";
    }
    entry.notBeforeMs = nowMs + delayMs(entry.refusals);
    entry.refusals += 1;
    this.#holdBehind(entry, keyOf);
    return "again";
  }

  /** The link is gone: nothing is under way, and whatever was is tried again at once. */
  linkDown(): void {
    for (const entry of this.#entries.values()) entry.underWay = entry.comesAgain = false;
  }

  #holdBehind(refused: Outgoing, keyOf: TakeView["keyOf"]): void {
    const conversation = keyOf(refused.request);
    for (const entry of this.#entries.values()) {
      const behind = entry.order > refused.order && keyOf(entry.request) === conversation;
      if (behind && entry.underWay) entry.comesAgain = true;
    }
  }

  #begin(entry: Outgoing, head: number): void {
    entry.underWay = true;
    entry.attempt += 1;
    entry.request.retry = entry.tried;
    if (!entry.tried) entry.request.knownHeadSeq = Math.max(entry.request.knownHeadSeq, head);
    entry.tried = true;
  }

  #insert(clientId: string, request: SendRequest, order: number, bytes: number): Outgoing {
    const entry: Outgoing = {
      clientId,
      order,
      request,
      bytes,
      tried: false,
      attempt: 0,
      underWay: false,
      comesAgain: false,
      refusals: 0,
      notBeforeMs: 0,
    };
    this.#lastOrder = Math.max(this.#lastOrder, order);
    this.#entries.set(clientId, entry);
    this.#bytes += bytes;
    return entry;
  }
}
