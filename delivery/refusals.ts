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
  /** By conversation its last one, in rising order; only what the gateway may not have seen yet. */
  readonly #last = new Map<string, Refusal>();

  /** An operation is about to be refused. */
  given(conversationId: string, error: ConnectError): void {
    const isMoved = error.code === Code.Aborted;
    if (!isMoved && retryAfterMs(error) === 0) return;
    this.#given += 1;
    this.#last.delete(conversationId);
    this.#last.set(conversationId, { number: this.#given, isMoved });
  }

  /** Why a send cannot be taken, which is then refused in the same way as the one before it; undefined: it can. */
  refusalOf({ conversationId, refusalsSeen }: Operation): ConnectError | undefined {
    if (this.#last.size === 0 || refusalsSeen === 0) return undefined;
    for (const [id, { number }] of this.#last) {
      if (number > refusalsSeen - 1) break;
      this.#last.delete(id);
    }
    const last = this.#last.get(conversationId);
    if (last === undefined) return undefined;
    return last.isMoved
      ? moved()
      : unavailable("what was sent before it into this conversation was refused, try again");
  }
}
