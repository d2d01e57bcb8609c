/** The network between hosts: connections that keep order, and take their time, are held up, cut one way, broken, half open. */
import type { Random } from "../../mesh/random.ts";
import type { Host, HostChange } from "./host.ts";
import type { Timeline } from "./timeline.ts";

/** How long a side hears nothing, not even the answer to a ping, before it takes a connection for broken. */
const deafMs = 10_000;
const connectMs = 5_000;

/** One end of a connection. */
export interface End {
  /** Runs at the other end, after all that was sent before. */
  send(run: () => void): void;
  /** Ends it here at once, and at the other end after what was sent before; quietly: the other end is never told. */
  close(): void;
  readonly open: boolean;
  /** The other end. */
  readonly peer: End;
  /** Called once, when it is over and not by this end. */
  onBroken: () => void;
}

export interface Settings {
  /** The least and the most that a message takes one way. */
  readonly latencyMs: readonly [number, number];
  /** How likely a message takes up to `slowMs` longer. */
  readonly slowChance: number;
  readonly slowMs: number;
}

export class Network {
  readonly timeline: Timeline;
  readonly random: Random;
  readonly #settings: Settings;
  /** "a>b" of what does not get through. */
  readonly #cuts = new Map<string, number>();
  readonly #isolated = new Map<Host, number>();
  readonly #slow = new Map<string, number>();
  readonly #connections = new Set<Connection>();

  constructor(timeline: Timeline, random: Random, settings: Settings) {
    this.timeline = timeline;
    this.random = random;
    this.#settings = settings;
  }

  get latencyMs(): number {
    const { latencyMs, slowChance, slowMs } = this.#settings;
    const [least, most] = latencyMs;
    const slow = this.random.unit() < slowChance ? this.random.unit() * slowMs : 0;
    return least + this.random.unit() * (most - least) + slow;
  }

  isCut(from: Host, to: Host): boolean {
    if (this.#isolated.has(from) || this.#isolated.has(to)) return true;
    return (this.#cuts.get(`${from.name}>${to.name}`) ?? 0) > 0;
  }

  /** Nothing gets from one to the other until the answer is called; what was sent arrives then, if its connection still is. */
  cut(from: Host, to: Host): () => void {
    const key = `${from.name}>${to.name}`;
    this.#cuts.set(key, (this.#cuts.get(key) ?? 0) + 1);
    for (const connection of this.#between(from, to)) connection.wentDeaf();
    let over = false;
    return () => {
      if (over) return;
      over = true;
      this.#cuts.set(key, (this.#cuts.get(key) ?? 1) - 1);
      for (const connection of this.#between(from, to)) connection.flow();
    };
  }

  /** Nothing gets to it or from it, until the answer is called. */
  isolate(host: Host): () => void {
    this.#isolated.set(host, (this.#isolated.get(host) ?? 0) + 1);
    for (const connection of this.#connections) if (connection.has(host)) connection.wentDeaf();
    let over = false;
    return () => {
      if (over) return;
      over = true;
      const left = (this.#isolated.get(host) ?? 1) - 1;
      if (left > 0) this.#isolated.set(host, left);
      else this.#isolated.delete(host);
      for (const connection of this.#connections) if (connection.has(host)) connection.flow();
    };
  }

  /** What goes from one to the other takes up to that much longer, until the answer is called. */
  slow(one: Host, other: Host, ms: number): () => void {
    const keys = [`${one.name}>${other.name}`, `${other.name}>${one.name}`];
    for (const key of keys) this.#slow.set(key, ms);
    return () => keys.forEach((key) => this.#slow.delete(key));
  }

  /** How long a message takes. */
  latency(from: Host, to: Host): number {
    return this.latencyMs + this.random.unit() * (this.#slow.get(`${from.name}>${to.name}`) ?? 0);
  }

  /** Every connection between them ends, at both ends. Answers with how many. */
  break(one: Host, other: Host): number {
    const all = this.#between(one, other);
    for (const connection of all) connection.reset();
    return all.length;
  }

  /** From now on what becomes of the host is felt by whoever is connected with it. */
  add(host: Host): void {
    host.watch((change) => {
      for (const connection of this.#connections) connection.changed(host, change);
    });
  }

  /** Whom the host is connected with. */
  partners(host: Host): Host[] {
    const others = new Set<Host>();
    for (const { from, to } of this.#connections) {
      if (from.host === host) others.add(to.host);
      if (to.host === host) others.add(from.host);
    }
    return [...others];
  }

  /**
   * Connects; exactly one of the callbacks is called, at `from`. `accept` is called at `to` with its end, and answers whether it takes it.
   */
  connect(
    from: Host,
    to: Host,
    accept: (end: End) => boolean,
    done: { connected(end: End): void; failed(reason: string): void },
    pings = true,
  ): void {
    const connection = new Connection(this, from, to, pings);
    let settled = false;
    const fail = (reason: string): void => {
      if (settled) return;
      settled = true;
      connection.from.close();
      done.failed(reason);
    };
    this.timeline.in(connectMs, () => from.hears(() => fail("nobody answers")));
    if (this.isCut(from, to)) return;
    if (to.dead) {
      this.timeline.in(2 * this.latencyMs, () => from.hears(() => fail("nobody listens there")));
      return;
    }
    this.#connections.add(connection);
    connection.from.send(() => {
      if (!accept(connection.to)) {
        connection.to.close();
        return;
      }
      connection.to.send(() => {
        if (settled) return;
        settled = true;
        connection.from.onBroken = () => undefined;
        done.connected(connection.from);
      });
    });
    connection.from.onBroken = () => fail("refused");
  }

  forget(connection: Connection): void {
    this.#connections.delete(connection);
  }

  #between(one: Host, other: Host): Connection[] {
    return [...this.#connections].filter(
      ({ from, to }) =>
        (from.host === one && to.host === other) || (from.host === other && to.host === one),
    );
  }
}

class Connection {
  readonly network: Network;
  readonly from: Half;
  readonly to: Half;
  /** Whether each side asks for signs of life. */
  readonly #pings: boolean;
  /** Grows whenever a trouble is over. */
  #heard = 0;

  constructor(network: Network, from: Host, to: Host, pings: boolean) {
    this.network = network;
    this.from = new Half(this, from);
    this.to = new Half(this, to);
    this.from.other = this.to;
    this.to.other = this.from;
    this.#pings = pings;
  }

  has(host: Host): boolean {
    return this.from.host === host || this.to.host === host;
  }

  /** Messages are held up from now on. */
  wentDeaf(): void {
    this.#breakLater(this.from, () => true);
    this.#breakLater(this.to, () => true);
  }

  /** What was held up goes on its way. */
  flow(): void {
    const { from, to } = this;
    const { network } = this;
    if (!network.isCut(from.host, to.host) && !network.isCut(to.host, from.host)) this.#heard += 1;
    from.flow();
    to.flow();
  }

  reset(): void {
    const { network } = this;
    for (const half of [this.from, this.to])
      network.timeline.in(network.latencyMs, () => half.host.hears(() => half.broke(false)));
  }

  changed(host: Host, change: HostChange): void {
    if (!this.has(host)) return;
    const mine = this.from.host === host ? this.from : this.to;
    const { peer } = mine;
    switch (change) {
      case "killed":
        mine.close();
        return;
      case "vanished":
        mine.open = false;
        this.#breakLater(peer, () => true);
        return;
      case "paused":
        this.#breakLater(peer, () => host.paused);
        return;
      case "woken":
        this.#heard += 1;
        return;
    }
  }

  over(): void {
    if (!this.from.open && !this.to.open) this.network.forget(this);
  }

  #breakLater(half: Half, still: () => boolean): void {
    if (!this.#pings) return;
    const heard = this.#heard;
    const { timeline, random } = this.network;
    timeline.in(deafMs * (0.5 + random.unit() / 2), () => {
      if (this.#heard === heard && still()) half.host.hears(() => half.broke(true));
    });
  }
}

class Half implements End {
  readonly host: Host;
  other: Half | undefined;
  open = true;
  onBroken = (): void => undefined;
  readonly #connection: Connection;
  #held: (() => void)[] = [];
  #lastDueMs = 0;

  constructor(connection: Connection, host: Host) {
    this.#connection = connection;
    this.host = host;
  }

  get peer(): Half {
    if (this.other === undefined) throw new Error("a connection has two ends");
    return this.other;
  }

  send(run: () => void): void {
    if (!this.open) return;
    const { peer } = this;
    this.#pass(() => {
      if (peer.open) run();
    });
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.#pass(() => this.peer.broke(false));
    this.#connection.over();
  }

  /** This end notices that it is over. */
  broke(tell: boolean): void {
    if (!this.open) return;
    if (tell) this.close();
    this.open = false;
    this.#connection.over();
    this.onBroken();
  }

  flow(): void {
    const held = this.#held;
    this.#held = [];
    for (const run of held) this.#pass(run);
  }

  #pass(run: () => void): void {
    const { peer } = this;
    const { network } = this.#connection;
    if (this.#held.length > 0 || network.isCut(this.host, peer.host)) {
      this.#held.push(run);
      return;
    }
    this.#lastDueMs = Math.max(
      this.#lastDueMs,
      network.timeline.nowMs + network.latency(this.host, peer.host),
    );
    network.timeline.at(this.#lastDueMs, () => peer.host.hears(run));
  }
}
