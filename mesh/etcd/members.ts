/** The members of etcd, any of which may answer: connections to them, and single calls that go to another one when one fails. */
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { CallOptions, Client } from "@connectrpc/connect";
import { credentials as channelCredentials } from "@grpc/grpc-js";
import type { ChannelCredentials } from "@grpc/grpc-js";
import type { Logger } from "pino";
import { KV, Lease } from "../../proto/gen/etcd/rpc_pb.ts";
import { ClientTls } from "../client-tls.ts";
import type { ClientTlsFiles } from "../client-tls.ts";
import { sleep } from "../clock.ts";
import type { Clock } from "../clock.ts";
import { unavailable } from "../errors.ts";
import { createGrpcTransport } from "../grpc/transport.ts";
import type { GrpcTransport, GrpcTransportOptions } from "../grpc/transport.ts";
import type { Random } from "../random.ts";
import { EtcdLogin } from "./login.ts";
import type { EtcdCredentials } from "./login.ts";

/** A call that a member leaves without an answer for so long is tried at another. */
const callMs = 2_000;
const pauseMs = 100;
/** A list of all keys comes in one message. */
const maxMessageBytes = 64 * 1024 * 1024;
/** Somebody may claim all its shards at once. */
const maxCalls = 10_000;

/** A member without a leader hears nothing: it must say so instead of being silent. */
export const hasLeader = { hasleader: "true" };

export interface Calls {
  readonly kv: Client<typeof KV>;
  readonly lease: Client<typeof Lease>;
}

export type OpenChannel = (options: GrpcTransportOptions) => GrpcTransport;

/** How members are reached. */
export interface Ways {
  /** Undefined: etcd asks nobody who they are. */
  readonly credentials?: EtcdCredentials | undefined;
  readonly tls?: ClientTlsFiles | undefined;
  /** gRPC's, if not given. */
  readonly channel?: OpenChannel | undefined;
}

export class Members {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #endpoints: readonly string[];
  readonly #tls: ClientTls | undefined;
  readonly #channel: OpenChannel;
  readonly #login: EtcdLogin | undefined;
  readonly #closing = new AbortController();
  readonly #open = new Set<GrpcTransport>();
  /** Connections for single calls, by number of the member. */
  readonly #connections = new Map<number, GrpcTransport>();
  #present: number;

  /** Endpoints are "host:port", or "http://host:port", or "https://host:port"; without a scheme TLS is spoken where files for it are given. */
  constructor(
    endpoints: readonly string[],
    { clock, random, log }: { clock: Clock; random: Random; log: Logger },
    { tls, credentials, channel = createGrpcTransport }: Ways = {},
  ) {
    if (endpoints.length === 0) throw new Error("etcd has no endpoints");
    this.#clock = clock;
    this.#random = random;
    this.#endpoints = endpoints;
    this.#tls = tls === undefined ? undefined : new ClientTls(tls, log);
    this.#channel = channel;
    this.#login = credentials === undefined ? undefined : new EtcdLogin(credentials);
    this.#present = this.any();
  }

  get count(): number {
    return this.#endpoints.length;
  }

  /** The number of a member, by chance. */
  any(): number {
    return Math.floor(this.#random.unit() * this.count);
  }

  /** How the member of that number (modulo their count) is called. */
  endpoint(number: number): string {
    return this.#endpoints[number % this.count] ?? "";
  }

  /** A new connection, without another's backoff. Whoever asked for it closes it. Throws where no certificate can be had. */
  connect(number: number): GrpcTransport {
    const endpoint = this.endpoint(number);
    const channel = this.#channel({
      address: endpoint.replace(/^https?:\/\//, "").replace(/\/$/, ""),
      clock: this.#clock,
      maxMessageBytes,
      maxCalls,
      credentials: this.#credentials(endpoint),
    });
    return this.#login?.over(channel) ?? channel;
  }

  #credentials(endpoint: string): ChannelCredentials {
    if (endpoint.startsWith("http://")) return channelCredentials.createInsecure();
    if (this.#tls !== undefined)
      return channelCredentials.createFromSecureContext(this.#tls.context);
    return endpoint.startsWith("https://")
      ? channelCredentials.createSsl()
      : channelCredentials.createInsecure();
  }

  /**
   * Makes a call, at another member when one fails: `call` must be harmless to repeat, and is told how often it was tried before, with an
   * outcome that nobody knows. Rejects with UNAVAILABLE where none answers, and with the error itself where trying again is no use.
   */
  async ask<T>(
    call: (calls: Calls, options: CallOptions, before: number) => Promise<T>,
  ): Promise<T> {
    const { signal } = this.#closing;
    for (let before = 0; ; before += 1) {
      const number = this.#present;
      let connection: GrpcTransport | undefined;
      try {
        connection = this.#connection(number);
        const calls = { kv: createClient(KV, connection), lease: createClient(Lease, connection) };
        return await call(calls, { timeoutMs: callMs, signal }, before);
      } catch (error) {
        const { code, rawMessage } = ConnectError.from(error);
        if (!passing.has(code)) throw error;
        this.#drop(number, connection);
        if (before >= this.count || signal.aborted)
          throw unavailable(`etcd does not answer: ${rawMessage}`, 500, error);
      }
      await sleep(this.#clock, pauseMs * (0.5 + this.#random.unit()), signal).catch(
        () => undefined,
      );
    }
  }

  /** Calls under way end with UNAVAILABLE. */
  close(): void {
    this.#closing.abort(unavailable("the directory is closed"));
    for (const connection of this.#open) connection.close();
    this.#open.clear();
  }

  #connection(number: number): GrpcTransport {
    const known = this.#connections.get(number);
    if (known !== undefined) return known;
    if (this.#closing.signal.aborted) throw unavailable("the directory is closed");
    const connection = this.connect(number);
    this.#open.add(connection);
    this.#connections.set(number, connection);
    return connection;
  }

  /** The next call goes elsewhere, and to this member by a new connection. Other calls on the old one are over when it closes. */
  #drop(number: number, connection: GrpcTransport | undefined): void {
    if (this.#present === number) this.#present = (number + 1) % this.count;
    if (connection === undefined || this.#connections.get(number) !== connection) return;
    this.#connections.delete(number);
    this.#clock.after(callMs, () => {
      connection.close();
      this.#open.delete(connection);
    });
  }
}

const passing = new Set([
  Code.Canceled,
  Code.Unknown,
  Code.DeadlineExceeded,
  Code.ResourceExhausted,
  Code.Aborted,
  Code.Internal,
  Code.Unavailable,
]);
