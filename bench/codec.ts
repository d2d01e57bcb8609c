/**
 * The frames of proto/parley/v1/frame.proto by hand, on Buffers: the load generator must cost far less than the server.
 * Knows only what the benchmark sends and looks at; test/bench/codec.spec.ts holds it against the generated code.
 */

/** Field numbers of ClientFrame's and ServerFrame's oneofs. */
export const clientField = {
  hello: 2,
  heartbeatReply: 3,
  send: 4,
  moveCursor: 5,
  sync: 6,
  createGroup: 9,
} as const;
export const serverField = {
  welcome: 2,
  failure: 3,
  send: 4,
  moveCursor: 5,
  sync: 6,
  createGroup: 9,
  pushed: 13,
  heartbeat: 14,
  goodbye: 15,
} as const;

/** Room before a payload for the longest masked WebSocket header. */
const headerRoom = 14;

function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) length++;
  return length;
}

function putVarint(into: Buffer, at: number, value: number): number {
  let rest = value;
  while (rest >= 128) {
    into[at++] = (rest % 128) | 128;
    rest = Math.floor(rest / 128);
  }
  into[at++] = rest;
  return at;
}

/** Builds the rarely sent messages; the hot ones are written in place by FrameWriter. */
export function bytesField(field: number, value: Uint8Array | string): Buffer {
  const body = typeof value === "string" ? Buffer.from(value) : value;
  const head = Buffer.alloc(2 * 5);
  const end = putVarint(head, putVarint(head, 0, field * 8 + 2), body.length);
  return Buffer.concat([head.subarray(0, end), body]);
}

export function varintField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(2 * 8);
  return bytes.subarray(0, putVarint(bytes, putVarint(bytes, 0, field * 8), value));
}

/** Writes `value` as 8 lower-case hexadecimal digits. */
export function putHex(into: Buffer, at: number, value: number): void {
  for (let i = 7, rest = value; i >= 0; i--, rest >>>= 4) {
    const digit = rest & 15;
    into[at + i] = digit < 10 ? 48 + digit : 87 + digit;
  }
}

/** Reads what `putHex` wrote. */
export function takeHex(from: Buffer, at: number): number {
  let value = 0;
  for (let i = 0; i < 8; i++) {
    const byte = from[at + i] ?? 0;
    value = value * 16 + (byte < 58 ? byte - 48 : byte - 87);
  }
  return value;
}

/** A message's text begins with sender, receiver and counter, 8 digits each. */
export const markBytes = 24;

/** The text of a message before its counter is known. */
export function markedText(sender: number, receiver: number, bytes: number): Buffer {
  const text = Buffer.alloc(bytes, ".");
  putHex(text, 0, sender);
  putHex(text, 8, receiver);
  putHex(text, 16, 0);
  return text;
}

/** A SendRequest without its known head; client id and text are completed with a counter at every send. */
export interface SendTemplate {
  readonly bytes: Buffer;
  /** Where the last 4 bytes of the client id are. */
  readonly clientIdAt: number;
  /** Where the counter in the text is. */
  readonly counterAt: number;
}

/** `to` names the conversation, or the other user where there is none yet; `idPrefix` is 12 random bytes. */
export function sendTemplate(
  to: { conversation: string } | { user: string },
  idPrefix: Buffer,
  text: Buffer,
): SendTemplate {
  const receiver = "user" in to ? bytesField(2, to.user) : bytesField(1, to.conversation);
  const clientId = bytesField(3, Buffer.concat([idPrefix, Buffer.alloc(4)]));
  const content = bytesField(4, bytesField(1, text));
  const bytes = Buffer.concat([receiver, clientId, content]);
  return {
    bytes,
    clientIdAt: receiver.length + clientId.length - 4,
    counterAt: bytes.length - text.length + 16,
  };
}

/** Gathers what one connection says in one turn into one masked WebSocket message. */
export class FrameWriter {
  readonly #bytes: Buffer;
  #at = headerRoom;

  constructor(capacityBytes = 1 << 20) {
    this.#bytes = Buffer.allocUnsafeSlow(capacityBytes);
  }

  send(template: SendTemplate, requestId: number, counter: number, knownHead: number): void {
    const size = template.bytes.length;
    let at = this.#open(
      requestId,
      clientField.send,
      size + (knownHead > 0 ? 1 + varintLength(knownHead) : 0),
    );
    template.bytes.copy(this.#bytes, at);
    this.#bytes.writeUInt32BE(counter, at + template.clientIdAt);
    putHex(this.#bytes, at + template.counterAt, counter);
    at += size;
    if (knownHead > 0) {
      this.#bytes[at++] = 5 * 8;
      at = putVarint(this.#bytes, at, knownHead);
    }
    this.#at = at;
  }

  moveCursor(requestId: number, conversation: Buffer, deliveredSeq: number): void {
    const idLength = conversation.length;
    const size = 1 + varintLength(idLength) + idLength + 1 + varintLength(deliveredSeq);
    let at = this.#open(requestId, clientField.moveCursor, size);
    this.#bytes[at++] = 1 * 8 + 2;
    at = putVarint(this.#bytes, at, idLength);
    at += conversation.copy(this.#bytes, at);
    this.#bytes[at++] = 2 * 8;
    this.#at = putVarint(this.#bytes, at, deliveredSeq);
  }

  /** Any other frame. */
  frame(requestId: number, field: number, body: Uint8Array): void {
    const at = this.#open(requestId, field, body.length);
    this.#bytes.set(body, at);
    this.#at = at + body.length;
  }

  /** Not a frame at all: the whole payload, as the relay wants it. Completes a counter at `counterAt`. */
  payload(template: Buffer, counterAt: number, counter: number): void {
    template.copy(this.#bytes, this.#at);
    putHex(this.#bytes, this.#at + counterAt, counter);
    this.#at += template.length;
  }

  /** The WebSocket message with all that was written, or undefined where nothing was. */
  take(): Buffer | undefined {
    const end = this.#at;
    if (end === headerRoom) return undefined;
    const bytes = this.#bytes;
    const length = end - headerRoom;
    const start = headerRoom - (length < 126 ? 6 : length < 65_536 ? 8 : 14);
    bytes[start] = 0x82;
    if (length < 126) {
      bytes[start + 1] = 0x80 | length;
    } else if (length < 65_536) {
      bytes[start + 1] = 0x80 | 126;
      bytes.writeUInt16BE(length, start + 2);
    } else {
      bytes[start + 1] = 0x80 | 127;
      bytes.writeUInt32BE(0, start + 2);
      bytes.writeUInt32BE(length, start + 6);
    }
    bytes.writeUInt32BE(0, headerRoom - 4); // a mask of zeros leaves the payload as it is
    const message = Buffer.allocUnsafe(end - start);
    bytes.copy(message, 0, start, end);
    this.#at = headerRoom;
    return message;
  }

  /** Writes a frame's head; its body of `size` bytes goes where the answer says. */
  #open(requestId: number, field: number, size: number): number {
    const bytes = this.#bytes;
    let at = this.#at;
    bytes[at++] = 1 * 8 + 2;
    at = putVarint(bytes, at, 2 + varintLength(requestId) + varintLength(size) + size);
    bytes[at++] = 1 * 8;
    at = putVarint(bytes, at, requestId);
    bytes[at++] = field * 8 + 2;
    return putVarint(bytes, at, size);
  }
}
