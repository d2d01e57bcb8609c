/** HTTP over the simulated network: Node's own client at the device, the gateway's own server at the other end, and a `fetch` over both. */
import { setMaxListeners } from "node:events";
import { type IncomingMessage, request as httpRequest } from "node:http";
import { Duplex } from "node:stream";
import type { End } from "./network.ts";
import type { DeviceNet, Edge } from "./sockets.ts";

/** Bytes that are on their way or unread before a writer has to wait, as a kernel's buffers. */
const bufferBytes = 65_536;

/** One end of a connection, as a server or a client of HTTP takes it. */
class HttpSocket extends Duplex {
  readonly #end: End;
  readonly #readMs: () => number;
  /** The other end's; set before anything is written. */
  other: HttpSocket | undefined;
  #unread = 0;
  #waiting: (() => void) | undefined;
  readonly #late: Buffer[] = [];
  #ended = false;

  constructor(end: End, readMs: () => number) {
    super({ allowHalfOpen: false });
    this.#end = end;
    this.#readMs = readMs;
    // What came before the end may still be read.
    end.onBroken = () => {
      if (!this.#ended) this.destroy();
    };
    this.on("error", () => undefined);
  }

  /** Bytes came, for a reader that may be slow. */
  came(bytes: Buffer, later: (ms: number, run: () => void) => void): void {
    this.#late.push(bytes);
    if (this.#late.length === 1) this.#readNext(later);
  }

  /** No more comes. */
  over(): void {
    this.#ended = true;
    if (this.#late.length === 0 && !this.destroyed) this.push(null);
  }

  /** The other side has read that much. */
  wasRead(bytes: number): void {
    this.#unread -= bytes;
    const waiting = this.#waiting;
    if (waiting === undefined || this.#unread >= bufferBytes) return;
    this.#waiting = undefined;
    waiting();
  }

  #readNext(later: (ms: number, run: () => void) => void): void {
    const ms = this.#readMs();
    if (ms > 0) later(ms, () => this.#readFirst(later));
    else this.#readFirst(later);
  }

  #readFirst(later: (ms: number, run: () => void) => void): void {
    const bytes = this.#late.shift();
    if (bytes === undefined || this.destroyed) return;
    this.push(bytes);
    this.#end.send(() => this.other?.wasRead(bytes.length));
    if (this.#late.length > 0) this.#readNext(later);
    else if (this.#ended) this.push(null);
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#unread += chunk.length;
    const bytes = Buffer.from(chunk);
    this.#end.send(() => this.other?.came(bytes, this.other.later));
    if (this.#unread < bufferBytes) done();
    else this.#waiting = done;
  }

  later: (ms: number, run: () => void) => void = (_, run) => run();

  override _final(done: () => void): void {
    this.#end.send(() => this.other?.over());
    this.#end.close();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#end.close();
    done(error);
  }
}

type Fetch = typeof globalThis.fetch;

// One signal may end any number of calls.
setMaxListeners(0);

/** Each request has a connection of its own. It ends where nothing is heard from the other side for a while, as TCP ends it sooner or later. */
export function fetchOver(net: DeviceNet): Fetch {
  return async (input, init = {}) => {
    const { signal } = init;
    if (signal?.aborted === true) throw signal.reason;
    const url = new URL(input instanceof Request ? input.url : input);
    return new Promise<Response>((resolve, reject) => {
      let drop = (): void => undefined;
      const abort = (): void => {
        reject(signal?.reason);
        drop();
      };
      signal?.addEventListener("abort", abort, { once: true });
      const failed = (reason: string): void => reject(new TypeError(`fetch failed: ${reason}`));
      connected(net, url).then((socket) => {
        if (signal?.aborted === true) return void socket.destroy();
        drop = () => void socket.destroy();
        ask(socket, url, init).then(
          (incoming) => resolve(responseOf(incoming, drop)),
          (error: unknown) => failed(String(error)),
        );
      }, failed);
    });
  };
}

function connected(net: DeviceNet, url: URL): Promise<HttpSocket> {
  const { network, host } = net;
  const edge: Edge | undefined = net.edge(url);
  return new Promise((resolve, reject) => {
    if (edge === undefined) {
      network.timeline.in(1, () => host.hears(() => reject("the name leads nowhere")));
      return;
    }
    let served: HttpSocket | undefined;
    network.connect(
      host,
      edge.host,
      (end) => {
        if (!edge.listening) return false;
        served = new HttpSocket(end, () => 0);
        edge.serve(served);
        return true;
      },
      {
        connected(end) {
          const own = new HttpSocket(end, net.readMs);
          own.later = (ms, run) => void network.timeline.in(ms, () => host.hears(run));
          own.other = served;
          if (served !== undefined) served.other = own;
          resolve(own);
        },
        failed: (reason) => reject(reason),
      },
    );
  });
}

function ask(socket: HttpSocket, url: URL, init: RequestInit): Promise<IncomingMessage> {
  const { method = "GET", headers, body } = init;
  return new Promise((resolve, reject) => {
    const asked = httpRequest({
      createConnection: () => socket,
      host: url.host,
      path: `${url.pathname}${url.search}`,
      method,
      headers: Object.fromEntries(new Headers(headers)),
    });
    asked.on("response", resolve);
    asked.on("error", reject);
    if (body === undefined || body === null) asked.end();
    else if (body instanceof Uint8Array) asked.end(Buffer.from(body));
    else reject(new TypeError("bodies are bytes in this world"));
  });
}

/** Ends with an error where the connection ended before all was there. */
function responseOf(incoming: IncomingMessage, drop: () => void): Response {
  const { statusCode: status = 500, headersDistinct } = incoming;
  const headers = new Headers();
  for (const [name, values = []] of Object.entries(headersDistinct))
    for (const value of values) headers.append(name, value);
  let over = false;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const end = (finish: () => void): void => {
        if (over) return;
        over = true;
        finish();
      };
      incoming.on("data", (chunk: Buffer) => {
        if (over) return;
        controller.enqueue(new Uint8Array(chunk));
        if ((controller.desiredSize ?? 1) <= 0) incoming.pause();
      });
      incoming.on("end", () => end(() => controller.close()));
      incoming.on("error", (error) => end(() => controller.error(new TypeError(String(error)))));
    },
    pull: () => void incoming.resume(),
    cancel() {
      over = true;
      drop();
    },
  });
  return new Response(status === 204 || status === 304 ? null : body, { status, headers });
}
