/** A TCP proxy between two parts of the service, which a test can make slow, deaf, mute, or let die. It knows no protocol. */
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";

export interface Target {
  readonly host: string;
  readonly port: number;
}

/** Seen from who connects: what goes up goes to the target. */
export type Direction = "up" | "down";

/** What happens to bytes of one direction. */
export type Way =
  | { readonly t: "pass" }
  /** Each piece comes that much later, in order. */
  | { readonly t: "delay"; readonly ms: number }
  /** Taken from the sender and thrown away, as by a network that is cut without a word: the end of the stream, too. */
  | { readonly t: "drop" };

const pass: Way = { t: "pass" };

/** Which connections are meant: by direction, by the label of who connected; all where neither is named. */
export interface Meant {
  readonly direction?: Direction;
  readonly of?: string;
}

/** Who connected: a test that does not care calls all of them "". */
export type LabelOf = (client: Socket) => Promise<string>;

interface Pair {
  readonly client: Socket;
  readonly target: Socket;
  readonly label: string;
}

interface Rule {
  readonly way: Way;
  readonly meant: Meant;
}

/**
 * Every new connection goes to the next target; where that one refuses, to the one after, as behind a load balancer. Where all do, the
 * connection is reset.
 */
export class Proxy {
  readonly host: string;
  readonly port: number;
  readonly #server: Server;
  readonly #labelOf: LabelOf;
  /** The last one that fits holds. */
  #rules: Rule[] = [];
  readonly #refused = new Set<string | undefined>();
  readonly #pairs = new Set<Pair>();
  /** Everything that is to end with the proxy. */
  readonly #sockets = new Set<Socket>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #targets: readonly Target[];
  #turn = 0;
  #droppedBytes = 0;
  #closed = false;

  private constructor(
    server: Server,
    address: AddressInfo,
    targets: readonly Target[],
    labelOf: LabelOf,
  ) {
    this.#server = server;
    this.#labelOf = labelOf;
    this.host = address.address;
    this.port = address.port;
    this.#targets = targets;
    server.on("connection", (client) => void this.#take(client));
  }

  /** `at`: where it listens; any free port where the port is 0. */
  static async open(
    targets: readonly Target[],
    at: Target = { host: "127.0.0.1", port: 0 },
    labelOf: LabelOf = () => Promise.resolve(""),
  ): Promise<Proxy> {
    const server = createServer({ allowHalfOpen: true });
    server.listen(at.port, at.host);
    await once(server, "listening");
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no address");
    return new Proxy(server, address, targets, labelOf);
  }

  /** "127.0.0.1:40123". */
  get address(): string {
    return `${this.host}:${this.port}`;
  }

  get url(): string {
    return `http://${this.address}`;
  }

  /** Connections that are through to a target. */
  get connections(): number {
    return this.#pairs.size;
  }

  /** Thrown away so far. */
  get droppedBytes(): number {
    return this.#droppedBytes;
  }

  /** For new connections. */
  set targets(targets: readonly Target[]) {
    this.#targets = targets;
  }

  /** For connections that are there and those that come. */
  set(way: Way, meant: Meant = {}): void {
    this.#rules.push({ way, meant });
  }

  /** Everything as at the start, for connections that are there too; what was dropped is lost. */
  heal(): void {
    this.#rules = [];
    this.#refused.clear();
  }

  /** New connections are reset at once. */
  refuse(of?: string): void {
    this.#refused.add(of);
  }

  /** Ends one direction of every connection; the other stays open. */
  halfClose(direction: Direction, of?: string): void {
    for (const { client, target } of this.#meant(of))
      if (direction === "up") target.end();
      else client.end();
  }

  /** Resets every connection now. */
  cut(of?: string): void {
    for (const { client, target } of this.#meant(of)) {
      client.resetAndDestroy();
      target.resetAndDestroy();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #take(client: Socket): Promise<void> {
    this.#keep(client);
    // Bytes wait in the socket meanwhile.
    const label = await this.#labelOf(client);
    const isRefused = this.#refused.has(undefined) || this.#refused.has(label);
    const target = isRefused ? undefined : await this.#reach();
    if (target === undefined || client.destroyed || this.#closed) {
      target?.destroy();
      client.resetAndDestroy();
      return;
    }
    client.setNoDelay(true);
    target.setNoDelay(true);
    const pair = { client, target, label };
    this.#pairs.add(pair);
    this.#carry(client, target, "up", pair);
    this.#carry(target, client, "down", pair);
  }

  #meant(of: string | undefined): Pair[] {
    return [...this.#pairs].filter(({ label }) => of === undefined || of === label);
  }

  #wayOf(direction: Direction, label: string): Way {
    const rule = this.#rules.findLast(
      ({ meant }) =>
        (meant.direction === undefined || meant.direction === direction) &&
        (meant.of === undefined || meant.of === label),
    );
    return rule?.way ?? pass;
  }

  async #reach(): Promise<Socket | undefined> {
    const targets = this.#targets;
    const first = this.#turn++;
    for (let tries = 0; tries < targets.length; tries += 1) {
      const target = targets[(first + tries) % targets.length];
      if (target === undefined) continue;
      const socket = connect({ ...target, allowHalfOpen: true });
      this.#keep(socket);
      try {
        await once(socket, "connect");
        return socket;
      } catch {
        // The next one.
      }
    }
    return undefined;
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => undefined);
    socket.once("close", () => this.#sockets.delete(socket));
  }

  #carry(from: Socket, to: Socket, direction: Direction, pair: Pair): void {
    /** When what was delayed last is due: nothing overtakes it. */
    let dueMs = 0;
    const pieces: (() => void)[] = [];
    const through = (run: () => void): void => {
      const way = this.#wayOf(direction, pair.label);
      if (way.t === "drop") return;
      const nowMs = performance.now();
      dueMs = Math.max(dueMs, nowMs + (way.t === "delay" ? way.ms : 0));
      if (dueMs <= nowMs && pieces.length === 0) {
        run();
        return;
      }
      pieces.push(run);
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        pieces.shift()?.();
      }, dueMs - nowMs);
      this.#timers.add(timer);
    };
    from.on("data", (bytes: Buffer) => {
      if (this.#wayOf(direction, pair.label).t === "drop") this.#droppedBytes += bytes.length;
      through(() => {
        if (!to.writable || to.write(bytes)) return;
        from.pause();
        to.once("drain", () => from.resume());
      });
    });
    from.once("end", () => through(() => to.end()));
    from.once("close", (hadError) => {
      this.#pairs.delete(pair);
      if (this.#wayOf(direction, pair.label).t === "drop") return;
      if (hadError) to.resetAndDestroy();
      else if (!from.readableEnded) to.destroy();
    });
  }
}
