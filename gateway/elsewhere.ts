/** Where clients are pointed to: a gateway of their own region, or another one of ours when this one goes away. */
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { Peers } from "../mesh/peers.ts";
import type { Random } from "../mesh/random.ts";
import { GatewayService } from "../proto/gen/parley/gateway/v1/gateway_pb.ts";

/** Where clients reach a gateway of the region that lives, stays and is not `self` (an instance's id), at random; "" where there is none. */
export function otherGateway(peers: Peers, random: Random, self: string, region: string): string {
  const urls: string[] = [];
  for (const peer of peers.present) {
    const isFit = peer.region === region && peer.id !== self && !peer.draining;
    if (isFit && peer.url !== "") urls.push(peer.url);
  }
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

  /** Another gateway of this region; "" where there is none. */
  sibling(): string {
    return this.#other(this.#region);
  }

  #other(region: string): string {
    const { random, identity } = this.#surroundings;
    return otherGateway(this.#gateways, random, identity.id, region);
  }
}
