/** Reads a gRPC call's messages one at a time, without ending the call when the reader leaves. */
import type { ConnectError } from "@connectrpc/connect";
import type { Readable } from "node:stream";

const done: IteratorReturnResult<undefined> = { done: true, value: undefined };

/**
 * In the place of the stream's own iterator, which destroys the stream's writing half when it ends and costs an async generator for every
 * message. One reader, one question at a time. Does not end when the stream is destroyed: whoever destroys it releases the reader.
 */
export class Incoming implements AsyncIterator<Buffer, undefined> {
  readonly #stream: Readable;
  readonly #failure: () => ConnectError | undefined;
  #waiting:
    | {
        resolve: (result: IteratorResult<Buffer, undefined>) => void;
        reject: (error: Error) => void;
      }
    | undefined;

  /** `failure` is asked at the stream's end: why, if not well. */
  constructor(stream: Readable, failure: () => ConnectError | undefined = () => undefined) {
    this.#stream = stream;
    this.#failure = failure;
    stream.on("readable", () => this.#offer());
    stream.on("end", () => this.#offer());
  }

  next(): Promise<IteratorResult<Buffer, undefined>> {
    const message = this.#stream.read() as Buffer | null;
    if (message !== null) return Promise.resolve({ done: false, value: message });
    if (this.#stream.readableEnded) {
      const failure = this.#failure();
      return failure === undefined ? Promise.resolve(done) : Promise.reject(failure);
    }
    return new Promise((resolve, reject) => (this.#waiting = { resolve, reject }));
  }

  #offer(): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    const message = this.#stream.read() as Buffer | null;
    if (message === null && !this.#stream.readableEnded) return;
    this.#waiting = undefined;
    const failure = message === null ? this.#failure() : undefined;
    if (message !== null) waiting.resolve({ done: false, value: message });
    else if (failure === undefined) waiting.resolve(done);
    else waiting.reject(failure);
  }
}
