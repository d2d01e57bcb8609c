/** The caller's side of one gRPC call: it ends once, and everything that waits in it with it. */
import type { DescMethod } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { Metadata } from "@grpc/grpc-js";
import type { Client, ClientDuplexStream, StatusObject } from "@grpc/grpc-js";
import { setMaxListeners } from "node:events";
import { over } from "../call.ts";
import { systemClock } from "../clock.ts";
import type { Clock } from "../clock.ts";
import { abortError, deadlineError } from "../errors.ts";
import { Relay } from "../relay.ts";
import { Incoming } from "./incoming.ts";
import { fromStatus, toHeaders, toMetadata } from "./metadata.ts";
import { Outgoing } from "./outgoing.ts";

const same = (bytes: Buffer): Buffer => bytes;

/** What a caller said about a call. */
export interface CallerAsked {
  signal: AbortSignal | undefined;
  timeoutMs: number | undefined;
  header: ConstructorParameters<typeof Headers>[0];
}

export class ClientCall {
  readonly header = new Headers();
  readonly trailer = new Headers();
  readonly #stream: ClientDuplexStream<Buffer, Buffer>;
  readonly #release: (() => void)[] = [];
  #output: { release(error: ConnectError): void } | undefined;
  #failure: ConnectError | undefined;
  #over = false;

  /** All kinds of call look alike on the wire, so that all are made as streams both ways. */
  constructor(
    client: Client,
    { parent, name }: DescMethod,
    { signal, timeoutMs, header }: CallerAsked,
    clock: Clock,
    calls: Set<ClientCall>,
  ) {
    if (signal?.aborted === true) throw abortError(signal);
    if (timeoutMs !== undefined && timeoutMs <= 0) throw deadlineError();
    this.#stream = client.makeBidiStreamRequest(
      `/${parent.typeName}/${name}`,
      same,
      same,
      header === undefined ? new Metadata() : toMetadata(new Headers(header)),
      // For the server to know; the library's clock is the system's.
      timeoutMs === undefined ? {} : { deadline: systemClock.now() + timeoutMs },
    );
    this.#stream.on("metadata", (metadata) => void toHeaders(metadata, this.header));
    this.#stream.on("status", (status) => this.#answered(status));
    // The status says the same.
    this.#stream.on("error", () => undefined);
    calls.add(this);
    this.#release.push(() => calls.delete(this));
    if (signal !== undefined) {
      const abort = (): void => this.fail(abortError(signal));
      // One signal may end any number of calls.
      setMaxListeners(0, signal);
      signal.addEventListener("abort", abort, { once: true });
      this.#release.push(() => signal.removeEventListener("abort", abort));
    }
    if (timeoutMs !== undefined)
      this.#release.push(clock.after(timeoutMs, () => this.fail(deadlineError())));
  }

  /** Where it is answered, "host:port"; something else as long as it goes nowhere. */
  get peer(): string {
    return this.#stream.getPeer();
  }

  /** Sends what the source has, as fast as it is taken, and answers what the caller reads. */
  run<A, B>(
    source: AsyncIterator<A>,
    request: (value: A) => Buffer,
    response: (bytes: Buffer) => B,
  ): Relay<Buffer, B> {
    const input = new Relay(source, request, {
      ended: (error) => {
        if (error !== undefined) this.fail(ConnectError.from(error));
        return undefined;
      },
      left: () => undefined,
    });
    const incoming = new Incoming(this.#stream, () => this.#failure);
    const output = new Relay(incoming, response, {
      ended: (error) => {
        if (error === undefined) return undefined;
        const seen = ConnectError.from(error);
        this.fail(seen);
        return seen;
      },
      left: () => this.fail(over()),
    });
    const outgoing = new Outgoing(this.#stream);
    this.#release.push(() => {
      input.release(undefined);
      outgoing.release();
    });
    this.#output = output;
    void this.#send(input, outgoing);
    return output;
  }

  /** Ends the call on both sides, unless the server has ended it. */
  fail(error: ConnectError): void {
    if (this.#over) return;
    this.#end();
    this.#output?.release(error);
    this.#stream.cancel();
  }

  /** Never rejects: the input's failures are the call's. */
  async #send(input: AsyncIterator<Buffer, undefined>, outgoing: Outgoing): Promise<void> {
    for (let next = await input.next(); next.done !== true; next = await input.next()) {
      if (!outgoing.write(next.value)) await outgoing.drained();
    }
    if (!this.#over) this.#stream.end();
  }

  /** The server's last word. What it sent before may still be read, then follows the failure or the end. */
  #answered(status: StatusObject): void {
    if (this.#over) return;
    this.#failure = fromStatus(status);
    toHeaders(status.metadata, this.trailer);
    this.#end();
  }

  #end(): void {
    this.#over = true;
    for (const release of this.#release) release();
  }
}
