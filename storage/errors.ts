/** The answers that only storage gives. */
import { Code, ConnectError } from "@connectrpc/connect";

export const revokedError = (incarnation: string): ConnectError =>
  new ConnectError(
    `the incarnation ${incarnation} is revoked, and another may own its conversations: begin a new one`,
    Code.Aborted,
  );

export const conflictError = (conversationId: string, reason: string): ConnectError =>
  new ConnectError(`${conversationId}: ${reason}`, Code.FailedPrecondition);

export const noMedia = (mediaId: string): ConnectError =>
  new ConnectError(`there is no medium ${mediaId} in that conversation`, Code.NotFound);
