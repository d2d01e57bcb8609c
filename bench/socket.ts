/** A WebSocket client on a raw socket: reads in place from one buffer that all sockets share, writes what it is given. */
import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";

export interface SocketEvents {
  opened(): void;
  /** One WebSocket message, bytes[start, end), valid only during the call. */
  message(bytes: Buffer, start: number, end: number): void;
  /** The socket is gone; not called after `close`. */
  lost(why: string): void;
}

export interface Address {
  readonly host: string;
  readonly port: number;
  readonly path: string;
  readonly subprotocol?: string;
}

/** Sockets are read one after the other, so one buffer serves them all. */
const shared = Buffer.allocUnsafeSlow(1 << 18);
const headEnd = Buffer.from("\r\n\r\n");

function upgradeRequest(address: Address): string {
  const lines = [
    `GET ${address.path} HTTP/1.1`,
    `Host: ${address.host}:${address.port}`,
    "Upgrade: websocket",
    "Connection: Upgrade",
    `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`,
    "Sec-WebSocket-Version: 13",
  ];
  if (address.subprotocol !== undefined)
    lines.push(`Sec-WebSocket-Protocol: ${address.subprotocol}`);
  return `${lines.join("\r\n")}\r\n\r\n`;
}

export class WebSocketClient {
  readonly #events: SocketEvents;
  readonly #socket: Socket;
  #rest: Buffer | undefined;
  #upgraded = false;
  #closed = false;

  constructor(address: Address, events: SocketEvents) {
    this.#events = events;
    this.#socket = connect({
      host: address.host,
      port: address.port,
      noDelay: true,
      onread: {
        buffer: shared,
        callback: (length) => {
          this.#take(length);
          return true;
        },
      },
    });
    this.#socket.on("connect", () => this.#socket.write(upgradeRequest(address)));
    this.#socket.on("error", (error) => this.#lose(error.message));
    this.#socket.on("close", () => this.#lose("the server closed the connection"));
  }

  /** Not bounded here: what is under way is bounded by the load's windows. */
  write(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  close(): void {
    this.#closed = true;
    this.#socket.destroy();
  }

  #lose(why: string): void {
    if (this.#closed) return;
    this.close();
    this.#events.lost(why);
  }

  #take(length: number): void {
    let bytes = shared;
    let end = length;
    if (this.#rest !== undefined) {
      bytes = Buffer.concat([this.#rest, shared.subarray(0, length)]);
      end = bytes.length;
      this.#rest = undefined;
    }
    try {
      const at = this.#upgraded ? this.#frames(bytes, 0, end) : this.#upgrade(bytes, end);
      if (at < end && !this.#closed) this.#rest = Buffer.from(bytes.subarray(at, end));
    } catch (error) {
      this.#lose(error instanceof Error ? error.message : String(error));
    }
  }

  #upgrade(bytes: Buffer, end: number): number {
    const at = bytes.subarray(0, end).indexOf(headEnd);
    if (at < 0) return 0;
    const head = bytes.toString("latin1", 0, at);
    if (!head.startsWith("HTTP/1.1 101")) throw new Error(`no upgrade: ${head.split("\r\n")[0]}`);
    this.#upgraded = true;
    this.#events.opened();
    return this.#frames(bytes, at + headEnd.length, end);
  }

  /** Answers how far it came; what is left is the beginning of a frame. */
  #frames(bytes: Buffer, start: number, end: number): number {
    let at = start;
    while (end - at >= 2 && !this.#closed) {
      const first = bytes[at] ?? 0;
      let length = bytes[at + 1] ?? 0;
      let body = at + 2;
      if (length === 126) {
        if (end - at < 4) return at;
        length = bytes.readUInt16BE(at + 2);
        body = at + 4;
      } else if (length === 127) {
        if (end - at < 10) return at;
        length = Number(bytes.readBigUInt64BE(at + 2));
        body = at + 10;
      }
      if (body + length > end) return at;
      if (first === 0x82) this.#events.message(bytes, body, body + length);
      else this.#control(first, bytes.subarray(body, body + length));
      at = body + length;
    }
    return at;
  }

  #control(first: number, body: Buffer): void {
    if (first === 0x89) {
      this.write(Buffer.concat([Buffer.from([0x8a, 0x80 | body.length, 0, 0, 0, 0]), body]));
    } else if (first === 0x88) {
      const code = body.length >= 2 ? body.readUInt16BE(0) : 1005;
      throw new Error(`closed with ${code} ${body.toString("utf8", 2)}`.trim());
    } else if (first !== 0x8a) {
      throw new Error(`a WebSocket frame that begins with 0x${first.toString(16)} is not expected`);
    }
  }
}
