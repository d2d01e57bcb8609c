/** The errors that services answer with. Inside the mesh there is one type, ConnectError; foreign errors become one where they are met. */
import { Code, ConnectError } from "@connectrpc/connect";

/** Metadata that says when trying again makes sense, in milliseconds. */
export const retryAfterHeader = "retry-after-ms";

function retryable(
  message: string,
  code: Code,
  retryAfterMs: number,
  cause?: unknown,
): ConnectError {
  return new ConnectError(
    message,
    code,
    { [retryAfterHeader]: String(retryAfterMs) },
    undefined,
    cause,
  );
}

/** The caller's input is wrong, as it is, for ever. */
export const invalid = (message: string): ConnectError =>
  new ConnectError(message, Code.InvalidArgument);

/** The same answer to a conversation that is not there and to one that is not the caller's. */
export const noConversation = (conversationId: string): ConnectError =>
  new ConnectError(
    `there is no conversation ${conversationId} that you are a member of`,
    Code.NotFound,
  );

export const notAllowed = (message: string): ConnectError =>
  new ConnectError(message, Code.PermissionDenied);

export const unauthenticated = (message: string, cause?: unknown): ConnectError =>
  new ConnectError(message, Code.Unauthenticated, undefined, undefined, cause);

/** What it is about has moved to another process, or moves just now; nothing was done, as far as is known. */
export const moved = (): ConnectError =>
  new ConnectError("this conversation is being moved to another owner, try again", Code.Aborted);

/** A bound was reached: too much, too fast or no room. */
export const overloaded = (message: string, retryAfterMs = 1_000): ConnectError =>
  retryable(message, Code.ResourceExhausted, retryAfterMs);

/** A part of the service is not there now. */
export const unavailable = (message: string, retryAfterMs = 500, cause?: unknown): ConnectError =>
  retryable(message, Code.Unavailable, retryAfterMs, cause);

/** When trying again makes sense, in milliseconds; 0: not at all, as it is. */
export function retryAfterMs(error: ConnectError): number {
  const said = Number(error.metadata.get(retryAfterHeader));
  if (said > 0) return said;
  const passing = [
    Code.Unavailable,
    Code.ResourceExhausted,
    Code.Aborted,
    Code.DeadlineExceeded,
    Code.Canceled,
  ];
  return passing.includes(error.code) ? 500 : 0;
}

/** Why a call ended whose caller's signal fired: the reason, where that is an error of ours, else CANCELED. */
export function abortError(signal: AbortSignal): ConnectError {
  const reason: unknown = signal.reason;
  if (reason instanceof ConnectError) return publicError(reason);
  return new ConnectError("the caller ended the call", Code.Canceled);
}

export const deadlineError = (): ConnectError =>
  new ConnectError("the call took longer than its deadline allows", Code.DeadlineExceeded);

/** What the other side of a call may see of an error: nothing of a foreign one, which may name anything; never a cause or a stack. */
export function publicError(error: unknown): ConnectError {
  if (error instanceof ConnectError)
    return new ConnectError(error.rawMessage, error.code, error.metadata);
  if (error instanceof Error && (error.name === "AbortError" || error.name === "TimeoutError"))
    return new ConnectError("the call was ended", Code.Canceled);
  return new ConnectError("internal error", Code.Internal);
}
