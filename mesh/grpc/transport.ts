/** A gRPC channel as the transport of generated clients. */
import { create, fromBinary } from "@bufbuild/protobuf";
import type {
  DescMessage,
  DescMethod,
  DescMethodStreaming,
  DescMethodUnary,
  MessageInitShape,
} from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { StreamResponse, Transport, UnaryResponse } from "@connectrpc/connect";
import { Client } from "@grpc/grpc-js";
import type { ChannelCredentials } from "@grpc/grpc-js";
import { systemClock } from "../clock.ts";
import type { Clock } from "../clock.ts";
import type { InstanceList } from "../directory.ts";
import { overloaded, unavailable } from "../errors.ts";
import { once } from "../handlers.ts";
import { toldLater } from "../relay.ts";
import { ClientCall } from "./client-call.ts";
import type { CallerAsked } from "./client-call.ts";
import { endCallsAtGone } from "./gone.ts";
import {
  keepaliveMs,
  keepaliveTimeoutMs,
  maxMessageBytes as defaultMaxMessageBytes,
  reconnectMaxMs,
} from "./limits.ts";
import { encode } from "./outgoing.ts";
import { plainChannel } from "./plain.ts";
import { anyInstance } from "./resolver.ts";

export interface GrpcTransportOptions {
  /** "host:port". */
  address?: string;
  /** Instead of an address: any of these, in turn. */
  instances?: InstanceList;
  /** For deadlines. */
  clock?: Clock;
  /** The largest message sent or taken. */
  maxMessageBytes?: number;
  /** Calls under way at once; more are refused. gRPC itself would let them wait without a word. */
  maxCalls?: number;
  credentials?: ChannelCredentials;
}

export interface GrpcTransport extends Transport {
  /** Ends what is under way with UNAVAILABLE and lets go of the connection. */
  close(): void;
}

/** One connection, made with the first call and made again when it was lost. */
export function createGrpcTransport(options: GrpcTransportOptions): GrpcTransport {
  return new Channel(options);
}

class Channel implements GrpcTransport {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #maxMessageBytes: number;
  readonly #maxCalls: number;
  readonly #calls = new Set<ClientCall>();
  readonly #unwatch: (() => void) | undefined;
  #closed = false;

  constructor(options: GrpcTransportOptions) {
    const { address = "", instances, clock = systemClock, maxCalls = 1_000 } = options;
    const any = instances === undefined ? undefined : anyInstance(instances, clock);
    this.#unwatch = instances && endCallsAtGone(instances, clock, this.#calls);
    const { maxMessageBytes = defaultMaxMessageBytes } = options;
    const { credentials = plainChannel(clock) } = options;
    this.#clock = clock;
    this.#maxMessageBytes = maxMessageBytes;
    this.#maxCalls = maxCalls;
    this.#client = new Client(any?.target ?? address, credentials, {
      ...any?.options,
      "grpc.max_receive_message_length": maxMessageBytes,
      "grpc.max_send_message_length": maxMessageBytes,
      // A retry would keep copies of what a long-lived stream sends; callers try again themselves.
      "grpc.enable_retries": 0,
      // Nor may it be ready for one: as long as the buffers for it have room, a write is reported as done before it is, so that a sender
      // would not wait for its receiver, and each message costs time in proportion to how many are in them.
      "grpc.retry_buffer_size": 0,
      "grpc.per_rpc_retry_buffer_size": 0,
      "grpc.use_local_subchannel_pool": 1,
      "grpc.keepalive_time_ms": keepaliveMs,
      "grpc.keepalive_timeout_ms": keepaliveTimeoutMs,
      "grpc.keepalive_permit_without_calls": 0,
      "grpc.client_idle_timeout_ms": 30 * 60_000,
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": reconnectMaxMs,
      "grpc.service_config_disable_resolution": 1,
      "grpc.enable_http_proxy": 0,
      "grpc.enable_channelz": 0,
    });
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: ConstructorParameters<typeof Headers>[0],
    input: MessageInitShape<I>,
  ): Promise<UnaryResponse<I, O>> {
    const call = this.#call(method, { signal, timeoutMs, header });
    const output = call.run(
      once(() => input),
      (message) => encode(method.input, create(method.input, message), this.#maxMessageBytes),
      (bytes) => fromBinary(method.output, bytes),
    );
    const first = await output.next();
    if (first.done === true)
      throw new ConnectError("the call was answered by no message", Code.Unimplemented);
    // A status that is not OK may follow the message.
    const second = await output.next();
    if (second.done !== true) {
      await output.return();
      throw new ConnectError("the call was answered by two messages", Code.Unimplemented);
    }
    const { header: responseHeader, trailer } = call;
    const service = method.parent;
    return {
      stream: false,
      service,
      method,
      header: responseHeader,
      trailer,
      message: first.value,
    };
  }

  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: ConstructorParameters<typeof Headers>[0],
    input: AsyncIterable<MessageInitShape<I>>,
  ): Promise<StreamResponse<I, O>> {
    return toldLater(this.#stream(method, { signal, timeoutMs, header }, input));
  }

  async #stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    asked: CallerAsked,
    input: AsyncIterable<MessageInitShape<I>>,
  ): Promise<StreamResponse<I, O>> {
    const call = this.#call(method, asked);
    const message = call.run(
      input[Symbol.asyncIterator](),
      (value) => encode(method.input, create(method.input, value), this.#maxMessageBytes),
      (bytes) => fromBinary(method.output, bytes),
    );
    // Headers come with the first message at the latest.
    await message.start();
    const { header: responseHeader, trailer } = call;
    return {
      stream: true,
      service: method.parent,
      method,
      header: responseHeader,
      trailer,
      message,
    };
  }

  close(): void {
    this.#closed = true;
    this.#unwatch?.();
    for (const call of this.#calls) call.fail(unavailable("the channel is closing"));
    this.#client.close();
  }

  #call(method: DescMethod, asked: CallerAsked): ClientCall {
    if (this.#closed) throw unavailable("the channel is closed");
    if (this.#calls.size >= this.#maxCalls)
      throw overloaded(
        `${this.#maxCalls} calls are under way on this channel, which is the most it takes`,
      );
    return new ClientCall(this.#client, method, asked, this.#clock, this.#calls);
  }
}
