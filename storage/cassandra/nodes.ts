/** The nodes that carry statements out, as the store sees them, and the driver's client as such. */
import type { Client, Host, types } from "cassandra-driver";

export type Row = Readonly<Record<string, unknown>>;

export interface Page {
  readonly rows: readonly Row[];
  /** Where the next page begins, if there is one. */
  readonly pageState?: string | null;
}

export interface Asked {
  readonly consistency?: types.consistencies;
  readonly pageState?: string;
}

export interface Statement {
  readonly query: string;
  readonly params: readonly unknown[];
}

/** Every answer comes within some seconds; what fails does so with the driver's errors, and may have been done, in part or in full. */
export interface Nodes {
  execute(statement: Statement, asked: Asked): Promise<Page>;
  /** Several as one request, not logged: those of one partition are done together or not at all. */
  batch(statements: readonly Statement[], consistency: types.consistencies): Promise<unknown>;
  /** How many of the data centre's nodes can be reached. */
  readonly up: number;
  /** To be called when something is wrong. */
  look(): void;
  shutdown(): Promise<void>;
}

/**
 * When all nodes were away, the driver takes up with the first that answers under another object, and forgets the one that has the
 * connections: it works on, but no one asks it, and shutting down the client leaves it alive. So all are kept.
 */
export class DriverNodes implements Nodes {
  readonly #client: Client;
  readonly #datacenter: string;
  readonly #hosts = new Set<Host>();

  constructor(client: Client, datacenter: string) {
    this.#client = client;
    this.#datacenter = datacenter;
    this.look();
  }

  execute({ query, params }: Statement, asked: Asked): Promise<Page> {
    return this.#client.execute(query, [...params], asked);
  }

  batch(statements: readonly Statement[], consistency: types.consistencies): Promise<unknown> {
    const queries = statements.map(({ query, params }) => ({ query, params: [...params] }));
    return this.#client.batch(queries, { consistency, logged: false, prepare: true });
  }

  look(): void {
    for (const host of this.#client.hosts.values()) this.#hosts.add(host);
  }

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
