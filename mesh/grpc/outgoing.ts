/** Writes a gRPC call's messages, waiting while the other side does not read. */
import { toBinary } from "@bufbuild/protobuf";
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Writable } from "node:stream";

export class Outgoing {
  readonly #stream: Writable;
  #resume: (() => void) | undefined;
  #released = false;

  constructor(stream: Writable) {
    this.#stream = stream;
    stream.on("drain", () => this.#go());
  }

  /** True: the next message may follow at once. False: wait for `drained`. */
  write(message: Buffer): boolean {
    return this.#released || this.#stream.write(message);
  }

  /** Resolves when there is room, or when the call is over: gRPC then never drains. */
  drained(): Promise<void> {
    if (this.#released || !this.#stream.writableNeedDrain) return Promise.resolve();
    return new Promise((resolve) => (this.#resume = resolve));
  }

  /** The call is over: nothing is written from now on. */
  release(): void {
    this.#released = true;
    this.#go();
  }

  #go(): void {
    this.#resume?.();
    this.#resume = undefined;
  }
}

/** Encodes a message, if it is not larger than the other side takes. */
export function encode<D extends DescMessage>(
  type: D,
  message: MessageShape<D>,
  maxBytes: number,
): Buffer {
  const bytes = toBinary(type, message);
  if (bytes.length > maxBytes)
    throw new ConnectError(
      `a ${type.typeName} of ${bytes.length} bytes is larger than a message may be, ${maxBytes} bytes`,
      Code.ResourceExhausted,
    );
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
