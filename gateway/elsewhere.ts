/** Where clients are pointed to: a gateway of their own region, or another one of ours when this one goes away. */
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { Peer, Peers } from "../mesh/peers.ts";
import type { Random } from "../mesh/random.ts";
import { GatewayService } from "../proto/gen/parley/gateway/v1/gateway_pb.ts";

/** The gateways of the region that live, stay and are not `self` (an instance's id). */
function othersOf(peers: Peers, self: string, region: string): Peer[] {
  return peers.present.filter(
    (peer) => peer.region === region && peer.id !== self && !peer.draining,
  );
}

/** Where clients reach one of them, at random; "" where there is none. */
export function otherGateway(peers: Peers, random: Random, self: string, region: string): string {
  const urls = othersOf(peers, self, region).flatMap(({ url }) => (url === "" ? [] : url));
  return urls[Math.floor(random.unit() * urls.length)] ?? "";
}

export class Elsewhere {
  readonly #surroundings: Surroundings;
  readonly #gateways: Peers;
  readonly #region: string;

  /** `region` is this gateway's. */
  constructor(surroundings: Surroundings, region: string) {
    this.#surroundings = surroundings;
    this.#gateways = surroundings.peers(GatewayService);
    this.#region = region;
  }

  /** Where a user of that region belongs; "" where that is here, or nobody serves it: then the user is served here. */
  homeOf(region: string): string {
    return region === "" || region === this.#region ? "" : this.#other(region);
  }

  /** Whether no other gateway of this region takes clients, by an address of its own or behind one that they share. */
  get alone(): boolean {
    return othersOf(this.#gateways, this.#surroundings.identity.id, this.#region).length === 0;
  }

  /** Another gateway of this region; "" where there is none. */
  sibling(): string {
    return this.#other(this.#region);
  }

  #other(region: string): string {
    const { random, identity } = this.#surroundings;
    return otherGateway(this.#gateways, random, identity.id, region);
  }
}
