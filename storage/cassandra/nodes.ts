/**
 * The nodes that a client has connections to. When all were away, the driver takes up with the first that answers under another object, and
 * forgets the one that has the connections: it works on, but no one asks it, and shutting down the client leaves it alive. So all are kept.
 */
import type { Client, Host } from "cassandra-driver";

export class Nodes {
  readonly #client: Client;
  readonly #datacenter: string;
  readonly #hosts = new Set<Host>();

  constructor(client: Client, datacenter: string) {
    this.#client = client;
    this.#datacenter = datacenter;
    this.look();
  }

  /** To be called now and then, and when something is wrong. */
  look(): void {
    for (const host of this.#client.hosts.values()) this.#hosts.add(host);
  }

  /** How many of the data centre's nodes can be reached. */
  get up(): number {
    this.look();
    const down = new Set<string>();
    for (const host of this.#hosts) if (!host.isUp()) down.add(host.address);
    return this.#client.hosts
      .values()
      .filter(({ address, datacenter }) => datacenter === this.#datacenter && !down.has(address))
      .length;
  }

  async shutdown(): Promise<void> {
    this.look();
    const known = new Set(this.#client.hosts.values());
    await this.#client.shutdown();
    for (const host of this.#hosts) {
      const shutdown: unknown = Reflect.get(host, "shutdown");
      if (!known.has(host) && typeof shutdown === "function")
        await Reflect.apply(shutdown, host, [false]);
    }
  }
}
