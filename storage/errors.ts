/** The answers that only storage gives. */
import { Code, ConnectError } from "@connectrpc/connect";

export const revokedError = (incarnation: string): ConnectError =>
  new ConnectError(
    `the incarnation ${incarnation} is revoked, and another may own its conversations: begin a new one`,
    Code.Aborted,
  );

/** The store closes while it is not known whether a write is kept: nothing but that same write may come next. */
export class UnknownOutcome extends Error {
  override readonly name = "UnknownOutcome";

  constructor() {
    super("the store closes: send what is not answered again to another one");
  }
}

/** A write was refused for good when others of its batch may have been kept: no more of that incarnation can be right. */
export const brokenError = (cause: unknown): ConnectError =>
  new ConnectError(
    "a part of the batch can never be kept: begin a new incarnation",
    Code.Aborted,
    undefined,
    undefined,
    cause,
  );

export const conflictError = (conversationId: string, reason: string): ConnectError =>
  new ConnectError(`${conversationId}: ${reason}`, Code.FailedPrecondition);

export const noMedia = (mediaId: string): ConnectError =>
  new ConnectError(`there is no medium ${mediaId} in that conversation`, Code.NotFound);
