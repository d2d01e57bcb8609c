/** A simulated Cassandra of three nodes under the store's own code: each process gets a way to it in place of the driver's. */
import { errors, types } from "cassandra-driver";
import type { Clock } from "../../../mesh/clock.ts";
import type { Random } from "../../../mesh/random.ts";
import type { Outside } from "../../../storage/cassandra/connection.ts";
import { Connection } from "../../../storage/cassandra/connection.ts";
import type { Asked, Nodes, Page, Row, Statement } from "../../../storage/cassandra/nodes.ts";
import { CassandraStore } from "../../../storage/cassandra/store.ts";
import type { CassandraConfig, Store } from "../../../storage/index.ts";
import { type Change, type Selection, understood } from "./cql.ts";
import { Network, type Weather } from "./network.ts";
import { allRules, Node, type Rules } from "./node.ts";
import { decoded } from "./schema.ts";
import { bytesIn, type Found, isLive } from "./table.ts";

const pageRows = 5_000;
const clientTimeoutMs = 5_000;

const config: CassandraConfig = {
  contactPoints: ["simulated"],
  datacenter: "simulated",
  keyspace: "parley",
  replication: 3,
  username: undefined,
  password: undefined,
  tls: undefined,
  tlsName: undefined,
  inFlightMax: 1_024,
};

export class SimulatedCassandra {
  readonly nodes: readonly Node[];
  readonly network: Network;

  constructor(clock: Clock, random: Random, rules: Partial<Rules> = {}) {
    this.network = new Network(clock, random);
    const nodes: Node[] = [];
    for (const name of ["c1", "c2", "c3"])
      nodes.push(new Node(name, this.network, { ...allRules, ...rules }, nodes));
    this.nodes = nodes;
  }

  set weather(weather: Weather) {
    this.network.weather = weather;
  }

  /** By its own clock, which may be wrong, and stands while the process does. */
  client(name: string, clock: Clock): Nodes {
    return new SimulatedClient(name, clock, this);
  }

  /** One replica has it, as when a coordinator dies after its first message. */
  leave(node: number, { query, params }: Statement): void {
    const change = understood(query, params, () => 0n);
    if (change.kind === "read") throw new Error(`no write: ${query}`);
    this.nodes[node]?.keep([change.mutation]);
  }

  /** What one replica has, whoever else has something else. */
  at(node: number, { query, params }: Statement): Row[] {
    const selection = understood(query, params, () => 0n);
    const replica = this.nodes[node];
    if (selection.kind !== "read" || replica === undefined) throw new Error(`no read: ${query}`);
    return rowsOf(selection, replica.own(selection));
  }
}

/** The store of a process. */
export const storeOver = (nodes: Nodes, outside: Outside): Store =>
  new CassandraStore(new Connection(nodes, config, outside), config, outside);

class SimulatedClient implements Nodes {
  readonly #name: string;
  readonly #clock: Clock;
  readonly #cassandra: SimulatedCassandra;
  #lastMicros = 0n;

  constructor(name: string, clock: Clock, cassandra: SimulatedCassandra) {
    this.#name = name;
    this.#clock = clock;
    this.#cassandra = cassandra;
  }

  get up(): number {
    return this.#cassandra.nodes.filter((node) => node.up).length;
  }

  look(): void {}

  shutdown(): Promise<void> {
    return Promise.resolve();
  }

  async execute(statement: Statement, { consistency, pageState }: Asked): Promise<Page> {
    const asked = this.#understood(statement);
    const level = consistency ?? types.consistencies.localQuorum;
    if (asked.kind === "read") return this.#read(asked, level, pageState);
    await this.#ask((node) => node.write([asked.mutation], level));
    return { rows: [] };
  }

  async batch(statements: readonly Statement[], level: types.consistencies): Promise<void> {
    const mutations = statements.map((statement) => {
      const change = this.#understood(statement);
      if (change.kind === "read") throw new Error("a batch has a read");
      return change.mutation;
    });
    await this.#ask((node) => node.write(mutations, level));
  }

  async #read(selection: Selection, level: types.consistencies, state?: string): Promise<Page> {
    const { range } = selection;
    const [left = "", after = ""] = state?.split(" ") ?? [];
    const limit = state === undefined ? (range.limit ?? Infinity) : Number(left);
    const last = Buffer.from(after, "hex").toString("latin1");
    const page = {
      whole: range.whole,
      rows: (row: string) => (state === undefined || row > last) && range.rows(row),
      limit: Math.min(limit, pageRows),
    };
    const found = await this.#ask((node) => node.read({ ...selection, range: page }, level));
    const rows = rowsOf(selection, found);
    const end = [...found.rows.keys()].at(-1);
    if (rows.length < pageRows || limit <= pageRows || end === undefined) return { rows };
    const hex = Buffer.from(end, "latin1").toString("hex");
    return { rows, pageState: `${limit - pageRows} ${hex}` };
  }

  #understood({ query, params }: Statement): Selection | Change {
    return understood(query, params, () => {
      const micros = BigInt(Math.floor(this.#clock.now())) * 1_000n;
      this.#lastMicros = micros > this.#lastMicros ? micros : this.#lastMicros + 1n;
      return this.#lastMicros;
    });
  }

  /** One request to one node, answered by the process's own clock. */
  #ask<T>(work: (node: Node) => Promise<T>): Promise<T> {
    const { network, nodes } = this.#cassandra;
    const up = nodes.filter((one) => one.up);
    const node = up[network.below(up.length)];
    if (node === undefined)
      return Promise.reject(new errors.NoHostAvailableError({}, "no node can be reached"));
    return new Promise((resolve, reject) => {
      const end = (how: () => void): void => {
        stop();
        node.closed.delete(close);
        this.#clock.after(0, how);
      };
      const fail = (error: Error): void => end(() => reject(error));
      const stop = this.#clock.after(clientTimeoutMs, () =>
        fail(new errors.OperationTimedOutError(`${node.name} did not answer`, node.name)),
      );
      const close = (): void =>
        fail(new errors.OperationTimedOutError(`${node.name} closed the connection`, node.name));
      node.closed.add(close);
      const back = (how: () => void): void => network.send(node.name, this.#name, () => end(how));
      network.send(this.#name, node.name, () => {
        if (!node.up) return;
        work(node).then(
          (answer) => back(() => resolve(answer)),
          (error: Error) => back(() => reject(error)),
        );
      });
    });
  }
}

/** As the driver gives them. A partition that has no row, but something that is kept once for all, is a row to whoever asked for all of it. */
function rowsOf({ table, range, columns, partition }: Selection, { statics, rows }: Found): Row[] {
  const key = partsOf(partition);
  const live = [...rows].filter(([, row]) => isLive(row));
  const bytes = (
    column: string,
    row?: [string, Found extends { rows: ReadonlyMap<string, infer R> } ? R : never],
  ): string | undefined => {
    const at = table.partition.findIndex(({ name }) => name === column);
    if (at >= 0) return key[at];
    if (table.clustering?.name === column) return row?.[0];
    const fixed = statics.get(column);
    if (fixed !== undefined) return fixed.bytes;
    return row === undefined ? undefined : bytesIn(row[1].cells, column);
  };
  const told = (row?: (typeof live)[number]): Row =>
    Object.fromEntries(
      columns.map(({ name, type }) => {
        const value = bytes(name, row);
        return [name, value === undefined ? null : decoded(type, value)];
      }),
    );
  const some = table.statics.some(({ name }) => statics.get(name)?.bytes !== undefined);
  if (live.length === 0) return range.whole && some ? [told()] : [];
  return live.map(told);
}

/** The values of a partition's key. */
function partsOf(partition: string): string[] {
  const parts: string[] = [];
  for (let at = 0; at < partition.length;) {
    const colon = partition.indexOf(":", at);
    const end = colon + 1 + Number(partition.slice(at, colon));
    parts.push(partition.slice(colon + 1, end));
    at = end;
  }
  return parts;
}
