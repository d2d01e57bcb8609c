/** Who this process is at etcd: a name and a password, for which etcd gives a token that goes with each call, and another when it knows that one no longer. */
import type {
  DescMessage,
  DescMethodStreaming,
  DescMethodUnary,
  MessageInitShape,
} from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { StreamResponse, Transport, UnaryResponse } from "@connectrpc/connect";
import { Auth } from "../../proto/gen/etcd/rpc_pb.ts";
import type { GrpcTransport } from "../grpc/transport.ts";

export interface EtcdCredentials {
  readonly username: string;
  readonly password: string;
}

const loginMs = 2_000;

type Header = ConstructorParameters<typeof Headers>[0];

/** A token is good at every member, so that all connections have the same. */
export class EtcdLogin {
  readonly #credentials: EtcdCredentials;
  #token: string | undefined;

  constructor(credentials: EtcdCredentials) {
    this.#credentials = credentials;
  }

  over(channel: GrpcTransport): GrpcTransport {
    return new LoggedIn(channel, this);
  }

  get(transport: Transport): Promise<string> {
    return this.#token === undefined ? this.renew(transport) : Promise.resolve(this.#token);
  }

  async renew(transport: Transport): Promise<string> {
    const { username: name, password } = this.#credentials;
    const auth = createClient(Auth, transport);
    const { token } = await auth.authenticate({ name, password }, { timeoutMs: loginMs });
    this.#token = token;
    return token;
  }
}

class LoggedIn implements GrpcTransport {
  readonly #channel: GrpcTransport;
  readonly #login: EtcdLogin;

  constructor(channel: GrpcTransport, login: EtcdLogin) {
    this.#channel = channel;
    this.#login = login;
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: Header,
    input: MessageInitShape<I>,
  ): Promise<UnaryResponse<I, O>> {
    const call = (token: string): Promise<UnaryResponse<I, O>> =>
      this.#channel.unary(method, signal, timeoutMs, withToken(header, token), input);
    try {
      return await call(await this.#login.get(this.#channel));
    } catch (error) {
      if (!isOfToken(error)) throw error;
      return call(await this.#login.renew(this.#channel));
    }
  }

  /** Begins with a token of its own: a watch is told that its token is over in an answer, not by an error. There are few streams, and they live long. */
  async stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: Header,
    input: AsyncIterable<MessageInitShape<I>>,
  ): Promise<StreamResponse<I, O>> {
    const token = await this.#login.renew(this.#channel);
    return this.#channel.stream(method, signal, timeoutMs, withToken(header, token), input);
  }

  close(): void {
    this.#channel.close();
  }
}

function withToken(header: Header, token: string): Headers {
  const headers = new Headers(header);
  headers.set("token", token);
  return headers;
}

/** It has ended, or users or roles were changed since. */
function isOfToken(error: unknown): boolean {
  const { code, rawMessage } = ConnectError.from(error);
  return code === Code.Unauthenticated || rawMessage.includes("revision of auth store is old");
}
