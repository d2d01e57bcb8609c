/** The operations of one shard that cannot go out now, in their order. Pure: it does not know what they wait for, and is told the time. */
import { orderKey, told } from "./waiting.ts";
import type { Waiting } from "./waiting.ts";

/** Ids count up as operations are sent, and go round at 2^32. */
function asSent(one: Waiting, other: Waiting): number {
  return ((one.operation?.operationId ?? 0) - (other.operation?.operationId ?? 0)) | 0;
}

/** Whether both are tries of one message. */
function isSameSend(one: Waiting, other: Waiting): boolean {
  const [what, also] = [one.operation?.operation, other.operation?.operation];
  if (what?.case !== "send" || also?.case !== "send") return false;
  return (
    orderKey(one) === orderKey(other) &&
    Buffer.compare(what.value.clientId, also.value.clientId) === 0
  );
}

export class HeldShard {
  /** Sent to an owner and come back: to go out again before all in the queue. Those who waited for some may have been told. */
  #returned: Waiting[] = [];
  #queue: Waiting[] = [];

  get size(): number {
    return this.#returned.length + this.#queue.length;
  }

  /** Whether some came back and are not in the queue yet. */
  get refused(): boolean {
    return this.#returned.length > 0;
  }

  add(waiting: Waiting): void {
    this.#queue.push(waiting);
  }

  /** One that had been sent, under the id that it had then. */
  giveBack(waiting: Waiting): void {
    this.#returned.push(waiting);
  }

  /**
   * Those whose time is over, to be told. Where one of them is a send, those of its sender that were to follow it in its conversation are over
   * with it, since it comes again, if at all, behind them. So are those that were to follow one of `ahead`.
   */
  expired(nowMs: number, ahead: readonly Waiting[] = []): Waiting[] {
    const over: Waiting[] = [];
    const broken = new Set(ahead.flatMap((waiting) => orderKey(waiting) ?? []));
    const goesOn = (waiting: Waiting): boolean => {
      const late = waiting.untilMs <= nowMs;
      if (!late && broken.size === 0) return true;
      const key = orderKey(waiting);
      if (!late && (key === undefined || !broken.has(key))) return true;
      if (key !== undefined) broken.add(key);
      if (waiting.untilMs !== told) over.push(waiting);
      waiting.untilMs = told;
      return false;
    };
    // These stay: others that were sent after them may be still to come back.
    for (const waiting of this.#returned.sort(asSent)) goesOn(waiting);
    this.#queue = this.#queue.filter(goesOn);
    return over;
  }

  /** Other tries of a send of which this one was refused for good: they are not made any more. Those that were told already stay. */
  takeOthersOf(refused: Waiting): Waiting[] {
    const over = [...this.#returned, ...this.#queue].filter(
      (waiting) => waiting.untilMs !== told && isSameSend(waiting, refused),
    );
    this.#returned = this.#returned.filter((waiting) => !over.includes(waiting));
    this.#queue = this.#queue.filter((waiting) => !over.includes(waiting));
    return over;
  }

  /** Nothing is under way any more: what came back goes to the head of the queue. Answers with those who cannot go out for it, to be told. */
  merge(): Waiting[] {
    if (this.#returned.length === 0) return [];
    const over = this.expired(told);
    this.#queue = this.#returned.filter(({ untilMs }) => untilMs !== told).concat(this.#queue);
    this.#returned = [];
    return over;
  }

  /** The first of the queue, to be sent. */
  shift(): Waiting | undefined {
    return this.#queue.shift();
  }

  /** The whole queue, to be sent. */
  takeAll(): Waiting[] {
    const all = this.#queue;
    this.#queue = [];
    return all;
  }
}
