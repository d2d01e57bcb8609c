/** Which users fall to this instance. It must not know who is online. */
import { type Peer, ringOf } from "../mesh/peers.ts";
import type { Ring } from "../mesh/ring.ts";

/**
 * An instance that the ring has not (it is going away, or was not announced yet) has nobody. Where the ring has none at all, whoever is
 * asked has everybody: there is nobody else.
 */
export class Share {
  readonly #ring: Ring;
  /** This instance. */
  readonly id: string;

  constructor(peers: readonly Peer[], id: string) {
    this.#ring = ringOf(peers);
    this.id = id;
  }

  /** All that users are spread over. */
  get ids(): readonly string[] {
    return this.#ring.ids;
  }

  has(userId: string): boolean {
    return this.ids.length === 0 || this.#ring.of(userId) === this.id;
  }

  /** Whether the other one comes from the same instances: each user falls to the same one. */
  is({ id, ids }: Share): boolean {
    return (
      this.id === id &&
      this.ids.length === ids.length &&
      this.ids.every((one, at) => one === ids[at])
    );
  }
}
