/** WebSockets over the simulated network: at the gateway the socket that its library takes, at the device what the SDK takes. */
import { IncomingMessage } from "node:http";
import { Socket } from "node:net";
import { Duplex } from "node:stream";
import type { WebSocketEvent, WebSocketLike } from "../../client/index.ts";
import type { Host } from "./host.ts";
import type { End, Network } from "./network.ts";

/** Bytes that are on their way or unread before a writer has to wait, as a kernel's buffers. */
const bufferBytes = 65_536;

/** Takes a WebSocket's request over, as the edge does. */
export interface Edge {
  readonly host: Host;
  readonly listening: boolean;
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Takes a connection of HTTP. */
  serve(socket: Duplex): void;
}

/** The gateway's end. */
class EdgeSocket extends Duplex {
  readonly #end: End;
  /** Hands bytes to the device's end. */
  readonly #toDevice: (bytes: Buffer) => void;
  readonly #wasRead: (bytes: number) => void;
  #unread = 0;
  #waiting: (() => void) | undefined;

  constructor(end: End, toDevice: (bytes: Buffer) => void, wasRead: (bytes: number) => void) {
    super({ allowHalfOpen: false });
    this.#end = end;
    this.#toDevice = toDevice;
    this.#wasRead = wasRead;
    end.onBroken = () => this.destroy();
  }

  /** Bytes came. */
  came(bytes: Buffer): void {
    if (this.destroyed) return;
    this.push(bytes);
    this.#wasRead(bytes.length);
  }

  /** The device has read that much. */
  deviceRead(bytes: number): void {
    this.#unread -= bytes;
    const waiting = this.#waiting;
    if (waiting === undefined || this.#unread >= bufferBytes) return;
    this.#waiting = undefined;
    waiting();
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#unread += chunk.length;
    const bytes = Buffer.from(chunk);
    this.#end.send(() => this.#toDevice(bytes));
    if (this.#unread < bufferBytes) done();
    else this.#waiting = done;
  }

  override _final(done: () => void): void {
    this.#end.close();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#end.close();
    done(error);
  }
}

export interface DeviceNet {
  readonly network: Network;
  readonly host: Host;
  /** Where it is sent; undefined: the name leads nowhere. */
  readonly edge: (url: URL) => Edge | undefined;
  /** How long it takes over one message that came: a slow device reads slowly. */
  readonly readMs: () => number;
}

type Listener = (event: WebSocketEvent) => void;

/** The device's end. */
export class SimWebSocket implements WebSocketLike {
  binaryType = "arraybuffer";
  readonly #net: DeviceNet;
  readonly #listeners = new Map<string, Listener[]>();
  #end: End | undefined;
  #edge: EdgeSocket | undefined;
  #parser = new Frames();
  #open = false;
  #over = false;
  /** What came and waits until it is read. */
  readonly #unread: Buffer[] = [];
  /** Bytes that were read and that the gateway's end was not told of. */
  #unsaid = 0;

  constructor(net: DeviceNet, url: string) {
    this.#net = net;
    const { network, host } = net;
    const edge = net.edge(new URL(url));
    if (edge === undefined) {
      network.timeline.in(1, () => host.hears(() => this.#closed(1006, "")));
      return;
    }
    network.connect(
      host,
      edge.host,
      (end) => this.#accepted(edge, end),
      {
        connected: (end) => {
          if (this.#over) return end.close();
          this.#end = end;
          end.onBroken = () => this.#closed(1006, "");
          end.send(() => this.#upgrade(edge));
        },
        failed: () => this.#closed(1006, ""),
      },
      false,
    );
  }

  addEventListener(type: string, listener: Listener): void {
    const known = this.#listeners.get(type) ?? [];
    this.#listeners.set(type, [...known, listener]);
  }

  send(data: Uint8Array<ArrayBuffer>): void {
    if (this.#over || !this.#open) throw new Error("the socket is not open");
    this.#write(frameOf(2, data));
  }

  close(code = 1000): void {
    if (this.#over) return;
    if (this.#open) {
      const payload = Buffer.alloc(2);
      payload.writeUInt16BE(code);
      this.#write(frameOf(8, payload));
    }
    const { network, host } = this.#net;
    const end = this.#end;
    // The closing handshake is not waited for.
    network.timeline.in(0, () => host.hears(() => this.#closed(code, "")));
    this.#over = true;
    this.#end = undefined;
    if (end !== undefined) {
      end.onBroken = () => undefined;
      end.close();
    }
  }

  #accepted(edge: Edge, end: End): boolean {
    if (!edge.listening) return false;
    const socket: EdgeSocket = new EdgeSocket(
      end,
      (bytes) => this.#came(bytes),
      () => undefined,
    );
    this.#edge = socket;
    return true;
  }

  /** At the gateway. */
  #upgrade(edge: Edge): void {
    if (this.#edge === undefined) return;
    const request = new IncomingMessage(new Socket());
    request.method = "GET";
    request.url = "/ws";
    request.headers = {
      upgrade: "websocket",
      connection: "Upgrade",
      "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
      "sec-websocket-version": "13",
      "sec-websocket-protocol": "parley.v1",
    };
    edge.upgrade(request, this.#edge, Buffer.alloc(0));
  }

  #write(bytes: Buffer): void {
    this.#end?.send(() => this.#edge?.came(bytes));
  }

  /** At the device: bytes wait until it has time for them. */
  #came(bytes: Buffer): void {
    this.#unread.push(bytes);
    if (this.#unread.length === 1) this.#readNext();
  }

  #readNext(): void {
    const { network, host, readMs } = this.#net;
    const ms = readMs();
    if (ms > 0) network.timeline.in(ms, () => host.hears(() => this.#readFirst()));
    else this.#readFirst();
  }

  #readFirst(): void {
    const [bytes] = this.#unread;
    if (bytes === undefined) return;
    this.#read(bytes);
    this.#unread.shift();
    if (this.#unread.length > 0) this.#readNext();
  }

  #read(bytes: Buffer): void {
    this.#unsaid += bytes.length;
    if (this.#unsaid >= bufferBytes / 4) {
      const size = this.#unsaid;
      this.#unsaid = 0;
      this.#end?.send(() => this.#edge?.deviceRead(size));
    }
    if (this.#over) return;
    for (const { opcode, payload } of this.#parser.add(bytes)) {
      if (this.#over) return;
      if (opcode === 101) this.#opened();
      else if (opcode === 400) this.#closed(1006, "");
      else if (opcode === 2) this.#tell({ type: "message", data: toArrayBuffer(payload) });
      else if (opcode === 9) this.#write(frameOf(10, payload));
      else if (opcode === 8) {
        const code = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
        this.#write(frameOf(8, payload));
        this.#end?.close();
        this.#closed(code, payload.subarray(2).toString());
      }
    }
  }

  #opened(): void {
    this.#open = true;
    this.#tell({ type: "open" });
  }

  #closed(code: number, reason: string): void {
    if (this.#over) return;
    this.#over = true;
    const end = this.#end;
    this.#end = undefined;
    if (end !== undefined) end.close();
    this.#tell({ type: "close", code, reason });
  }

  #tell(event: WebSocketEvent): void {
    for (const listener of this.#listeners.get(event.type) ?? []) listener(event);
  }
}

function toArrayBuffer(bytes: Buffer): ArrayBuffer {
  const copy = new ArrayBuffer(bytes.length);
  new Uint8Array(copy).set(bytes);
  return copy;
}

/** Masked by zeros, so that the payload stays as it is. */
function frameOf(opcode: number, payload: Uint8Array): Buffer {
  const { length } = payload;
  const wide = length < 126 ? 0 : length < 65_536 ? 2 : 8;
  const header = Buffer.alloc(2 + wide + 4);
  header[0] = 0x80 | opcode;
  if (wide === 0) header[1] = 0x80 | length;
  else if (wide === 2) {
    header[1] = 0x80 | 126;
    header.writeUInt16BE(length, 2);
  } else {
    header[1] = 0x80 | 127;
    header.writeBigUInt64BE(BigInt(length), 2);
  }
  return Buffer.concat([header, payload]);
}

interface Frame {
  /** 101 and 400: the answer to the upgrade. */
  readonly opcode: number;
  readonly payload: Buffer;
}

/** What a server writes: an HTTP answer, then frames. */
class Frames {
  #bytes: Buffer = Buffer.alloc(0);
  #upgraded = false;

  *add(bytes: Buffer): Generator<Frame> {
    this.#bytes = this.#bytes.length === 0 ? bytes : Buffer.concat([this.#bytes, bytes]);
    for (let next = this.#next(); next !== undefined; next = this.#next()) yield next;
  }

  #next(): Frame | undefined {
    const all = this.#bytes;
    if (!this.#upgraded) {
      const end = all.indexOf("\r\n\r\n");
      if (end === -1) return undefined;
      this.#bytes = all.subarray(end + 4);
      this.#upgraded = true;
      const opcode = all.toString("latin1", 9, 12) === "101" ? 101 : 400;
      return { opcode, payload: Buffer.alloc(0) };
    }
    if (all.length < 2) return undefined;
    const short = (all[1] ?? 0) & 0x7f;
    const wide = short < 126 ? 0 : short === 126 ? 2 : 8;
    if (all.length < 2 + wide) return undefined;
    const length =
      wide === 0 ? short : wide === 2 ? all.readUInt16BE(2) : Number(all.readBigUInt64BE(2));
    const end = 2 + wide + length;
    if (all.length < end) return undefined;
    this.#bytes = all.subarray(end);
    return { opcode: (all[0] ?? 0) & 0x0f, payload: all.subarray(2 + wide, end) };
  }
}
