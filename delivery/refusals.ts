/**
 * Which sends of one gateway's stream left before the gateway knew that another one into their conversation comes again: to take them would be to
 * let them overtake it (P4). Pure.
 */
import { Code, type ConnectError } from "@connectrpc/connect";
import { moved, retryAfterMs, unavailable } from "../mesh/errors.ts";
import type { Operation } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";

interface Refusal {
  /** How many the gateway has seen once it has seen this one. */
  readonly number: number;
  /** The operation is not ours: the gateway itself brings it to its owner. */
  readonly isMoved: boolean;
}

export class Refusals {
  #given = 0;
  /** By conversation its last one, in rising order; only what the gateway may not have seen yet when it sent what has not had its turn. */
  readonly #last = new Map<string, Refusal>();
  /** How many operations wait for their turn, by `refusals_seen`, in rising order. */
  readonly #waiting = new Map<number, number>();

  /** An operation is about to be refused. */
  given(conversationId: string, error: ConnectError): void {
    const isMoved = error.code === Code.Aborted;
    if (!isMoved && retryAfterMs(error) === 0) return;
    this.#given += 1;
    this.#last.delete(conversationId);
    this.#last.set(conversationId, { number: this.#given, isMoved });
  }

  /** An operation waits for its turn: others of the stream, which come later, may have theirs before. */
  waits({ refusalsSeen }: Operation): void {
    this.#waiting.set(refusalsSeen, (this.#waiting.get(refusalsSeen) ?? 0) + 1);
  }

  /** One that waited has its turn, or is refused without one. */
  waited({ refusalsSeen }: Operation): void {
    const left = (this.#waiting.get(refusalsSeen) ?? 0) - 1;
    if (left > 0) this.#waiting.set(refusalsSeen, left);
    else this.#waiting.delete(refusalsSeen);
  }

  /** Why a send whose turn it is cannot be taken, which is then refused in the same way as the one before it; undefined: it can. */
  refusalOf({ conversationId, refusalsSeen }: Operation): ConnectError | undefined {
    if (this.#last.size === 0 || refusalsSeen === 0) return undefined;
    const [least = refusalsSeen] = this.#waiting.keys();
    for (const [id, { number }] of this.#last) {
      if (number >= Math.min(least, refusalsSeen)) break;
      this.#last.delete(id);
    }
    const last = this.#last.get(conversationId);
    if (last === undefined || last.number < refusalsSeen) return undefined;
    return last.isMoved
      ? moved()
      : unavailable("what was sent before it into this conversation was refused, try again");
  }
}
