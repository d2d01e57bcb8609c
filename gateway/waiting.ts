/** Operations on their way to delivery, each with whoever waits for its outcome. */
import { ConnectError } from "@connectrpc/connect";
import { retryAfterHeader } from "../mesh/errors.ts";
import type { Operation, Outcome } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";

/** Whoever waits for an operation's outcome. Exactly one of the two is called, once. */
export interface Waiting {
  settled(outcome: Outcome["outcome"]): void;
  failed(code: number, message: string, retryAfterMs: number): void;
  /** The three are set by the links. What was asked, until its outcome is known. */
  operation: Operation | undefined;
  shard: number;
  /** When to tell that no outcome came; `told`: that was done. */
  untilMs: number;
}

/** As `untilMs`: nobody waits for the outcome any more. */
export const told = 0;

/** Whose order a send must keep; undefined: it is no send. */
export function orderKey({ operation }: Waiting): string | undefined {
  if (operation?.operation.case !== "send") return undefined;
  const { origin, userId, conversationId } = operation;
  return `${origin === "" ? userId : origin} ${conversationId}`;
}

/**
 * The operation to be sent again, or after a wait: what was sent is whoever's it was sent to, and changes no more. Nobody can be sure that nothing was done, so
 * the owner finds out whether an earlier try made the message; `known_head_seq` is still that of the first one.
 */
export function sentAgain(operation: Operation): Operation {
  const what = operation.operation;
  if (what.case !== "send") return { ...operation };
  return { ...operation, operation: { case: "send", value: { ...what.value, retry: true } } };
}

function refusal(code: number, message: string, retryAfterMs: number): ConnectError {
  const header = retryAfterMs > 0 ? { [retryAfterHeader]: String(retryAfterMs) } : undefined;
  return new ConnectError(message, code, header);
}

/** An operation's outcome as a promise, for calls that have no connection. */
export class Promised implements Waiting {
  operation: Operation | undefined = undefined;
  shard = 0;
  untilMs = 0;
  readonly outcome: Promise<Outcome["outcome"]>;
  #resolve: (outcome: Outcome["outcome"]) => void = () => {};
  #reject: (error: ConnectError) => void = () => {};

  constructor() {
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  settled(outcome: Outcome["outcome"]): void {
    this.#resolve(outcome);
  }

  failed(code: number, message: string, retryAfterMs: number): void {
    this.#reject(refusal(code, message, retryAfterMs));
  }
}
