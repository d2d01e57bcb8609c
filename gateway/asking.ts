/** Asks other processes on an operator's behalf: each for a bounded time, and who gives no answer is named instead of failing the whole. */
import type { DescService } from "@bufbuild/protobuf";
import { type Client, ConnectError, createClient } from "@connectrpc/connect";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { type Peer, ringOf } from "../mesh/peers.ts";
import type { Unanswered } from "../proto/gen/parley/gateway/v1/gateway_pb.ts";

/** How long one process may take. */
export const answerMs = 3_000;

/** For one question of an operator. */
export class Asking {
  readonly unanswered: Unanswered[] = [];
  readonly #surroundings: Surroundings;

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
  }

  peers(service: DescService): readonly Peer[] {
    return this.#surroundings.peers(service).present;
  }

  /** The process of the service that the key falls to; undefined where there is none. */
  placeOf(service: DescService, key: string): Peer | undefined {
    const peers = this.peers(service);
    const id = ringOf(peers).of(key);
    return peers.find((peer) => peer.id === id);
  }

  /** Undefined where it does not answer. */
  async of<S extends DescService, T>(
    service: S,
    peer: Peer,
    ask: (client: Client<S>, options: { timeoutMs: number }) => Promise<T>,
  ): Promise<T | undefined> {
    try {
      return await ask(createClient(service, peer.transport), { timeoutMs: answerMs });
    } catch (error) {
      this.#unanswered(service, peer.id, ConnectError.from(error).rawMessage);
      return undefined;
    }
  }

  /** In order of the processes' ids, without those that do not answer. */
  async ofAll<S extends DescService, T>(
    service: S,
    ask: (client: Client<S>, options: { timeoutMs: number }) => Promise<T>,
  ): Promise<{ peer: Peer; answer: T }[]> {
    const all = await Promise.all(
      this.peers(service).map(async (peer) => ({
        peer,
        answer: await this.of(service, peer, ask),
      })),
    );
    return all.flatMap(({ peer, answer }) => (answer === undefined ? [] : [{ peer, answer }]));
  }

  /** There is no process to ask. */
  nobody(service: DescService, reason: string): void {
    this.#unanswered(service, "", reason);
  }

  /** Whether somebody of the service did not answer. */
  lacks(service: DescService): boolean {
    return this.unanswered.some((one) => one.service === nameOf(service));
  }

  #unanswered(service: DescService, processId: string, reason: string): void {
    const $typeName = "parley.gateway.v1.Unanswered";
    const known = (one: Unanswered): boolean =>
      one.processId === processId && one.service === nameOf(service);
    if (this.unanswered.some(known)) return;
    this.unanswered.push({ $typeName, service: nameOf(service), processId, reason });
  }
}

/** "gateway" of parley.gateway.v1.GatewayService. */
export const nameOf = ({ typeName }: DescService): string => typeName.split(".")[1] ?? typeName;
