/** What the SDK takes from around it: time, chance, WebSockets. Each may be given; the defaults are the platform's. */

/** Ends what it was given for; calling it again does nothing. */
export type Cancel = () => void;

export interface ClientClock {
  /** Milliseconds on a clock that never goes back; only differences mean something. */
  monotonic(): number;
  /** Runs `run` once, `ms` from now. */
  after(ms: number, run: () => void): Cancel;
  /** Runs `run` when the present turn of the event loop is done: where batches are sent. */
  afterTurn(run: () => void): void;
}

export interface ClientRandom {
  /** 0 <= x < 1. */
  unit(): number;
  bytes(length: number): Uint8Array;
}

/** What the SDK uses of a WebSocket: browsers' and the `ws` package's both fit. */
export interface WebSocketLike {
  binaryType: string;
  send(data: Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
  addEventListener(type: string, listener: (event: WebSocketEvent) => void): void;
}

/** The parts of open, message, close and error events that the SDK reads. */
export interface WebSocketEvent {
  readonly type: string;
  readonly data?: unknown;
  readonly code?: number;
  readonly reason?: string;
}

export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

/** Timers keep a Node process alive: what was sent must go out before it ends. `close()` ends them all. */
export const platformClock: ClientClock = {
  monotonic: () => performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
  afterTurn: endOfTurn(),
};

/** A clock whose timers all end with it. */
export class ScopedClock implements ClientClock {
  readonly #clock: ClientClock;
  readonly #timers = new Set<Cancel>();
  #ended = false;

  constructor(clock: ClientClock) {
    this.#clock = clock;
  }

  monotonic(): number {
    return this.#clock.monotonic();
  }

  after(ms: number, run: () => void): Cancel {
    if (this.#ended) return () => undefined;
    const cancel = this.#clock.after(ms, () => {
      this.#timers.delete(end);
      run();
    });
    const end = (): void => {
      this.#timers.delete(end);
      cancel();
    };
    this.#timers.add(end);
    return end;
  }

  afterTurn(run: () => void): void {
    this.#clock.afterTurn(() => {
      if (!this.#ended) run();
    });
  }

  end(): void {
    this.#ended = true;
    for (const cancel of this.#timers) cancel();
  }
}

/** A hidden tab's timers tick once a second or less; message channels are not slowed. */
function endOfTurn(): (run: () => void) => void {
  if (typeof setImmediate === "function") return (run) => void setImmediate(run);
  const waiting: (() => void)[] = [];
  const channel = new MessageChannel();
  Object.assign(channel.port1, { onmessage: () => waiting.shift()?.() });
  return (run) => {
    waiting.push(run);
    channel.port2.postMessage(undefined);
  };
}

export const platformRandom: ClientRandom = {
  unit: () => Math.random(),
  bytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
};

/** The platform's WebSocket, where it has one: browsers, and Node from 22 on. */
export function platformWebSocket(): WebSocketConstructor | undefined {
  const found: unknown = Reflect.get(globalThis, "WebSocket");
  return isWebSocketConstructor(found) ? found : undefined;
}

function isWebSocketConstructor(value: unknown): value is WebSocketConstructor {
  return typeof value === "function";
}

/** How long to wait before try number `failures`: anything up to a ceiling that doubles ("full jitter"). */
export function jitteredBackoffMs(
  failures: number,
  chance: number,
  baseMs: number,
  capMs: number,
): number {
  return chance * Math.min(capMs, baseMs * 2 ** Math.min(failures, 30));
}

/** 16 random bytes as 22 characters of base64url, and back: how client ids are named in the API. */
export function toBase64Url(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

export function fromBase64Url(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}
