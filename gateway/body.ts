/** Reads a request's body into memory, within bounds of size and time. What did not come whole is nothing. */
import type { IncomingMessage } from "node:http";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Clock } from "../mesh/clock.ts";
import { refusal } from "./answer.ts";

export interface BodyBounds {
  readonly maxBytes: number;
  /** How long nothing may come. */
  readonly silentMs: number;
  readonly uploadMs: number;
}

/** Rejects when the body is too large, too slow or cut off; what may still come is then thrown away. */
export function readBody(
  request: IncomingMessage,
  clock: Clock,
  { maxBytes, silentMs, uploadMs }: BodyBounds,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const tooSlow = (): void => fail(refusal(408, "the upload came too slowly", Code.Aborted));
    let cancelSilence = clock.after(silentMs, tooSlow);
    const cancelUpload = clock.after(uploadMs, tooSlow);

    function finish(): void {
      cancelSilence();
      cancelUpload();
      request.off("data", take).off("end", end).off("close", cut).off("error", cut);
    }
    function fail(error: ConnectError): void {
      finish();
      chunks.length = 0;
      request.resume();
      reject(error);
    }
    function take(chunk: Buffer): void {
      size += chunk.length;
      if (size > maxBytes) {
        fail(refusal(413, `the body is too large; at most ${maxBytes} bytes are taken`));
        return;
      }
      chunks.push(chunk);
      cancelSilence();
      cancelSilence = clock.after(silentMs, tooSlow);
    }
    function end(): void {
      finish();
      resolve(Buffer.concat(chunks, size));
    }
    function cut(): void {
      fail(new ConnectError("the upload was cut off", Code.Canceled));
    }
    request.on("data", take).on("end", end).on("close", cut).on("error", cut);
    if (request.destroyed) cut();
  });
}
