/** Answers of the plain HTTP routes: JSON, and errors as Connect spells them. */
import type { ServerResponse } from "node:http";
import { Code, ConnectError } from "@connectrpc/connect";
import { codeToHttpStatus, codeToString } from "@connectrpc/connect/protocol-connect";
import { retryAfterHeader, retryAfterMs } from "../mesh/errors.ts";

/** An error whose HTTP status says more than its code does. */
export function refusal(
  status: number,
  message: string,
  code: Code = Code.InvalidArgument,
): ConnectError {
  return Object.assign(new ConnectError(message, code), { status });
}

function statusOf(error: ConnectError): number {
  if ("status" in error && typeof error.status === "number") return error.status;
  return codeToHttpStatus(error.code);
}

export function sendJson(response: ServerResponse, status: number, body: object): void {
  const text = JSON.stringify(body) + "\n";
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
  });
  response.end(text);
}

/** `{"code": "not_found", "message": "…"}`, and after which time to try again where that makes sense. */
export function sendError(response: ServerResponse, error: ConnectError): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const waitMs = retryAfterMs(error);
  if (waitMs > 0) response.setHeader(retryAfterHeader, String(waitMs));
  response.setHeader("cache-control", "no-store");
  sendJson(response, statusOf(error), {
    code: codeToString(error.code),
    message: error.rawMessage,
  });
}
