/** The inputs of a run: the same for the same seed and number, each made by itself from valid ones. */
import { gzipSync } from "node:zlib";
import { hash32 } from "../../mesh/hash.ts";
import { seededRandom } from "../../mesh/random.ts";
import { batches, calls, helloBatch, peerName, userName, usersMax } from "./corpus.ts";
import type { Call, Picture } from "./corpus.ts";
import { Dice, spoilt, spoiltJson, spoiltMessage } from "./mutations.ts";

/** A request that an HTTP library can make. */
export interface HttpInput {
  readonly kind: "call" | "media";
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** Its good answer has no end. */
  readonly streams: boolean;
}

export type Input =
  | HttpInput
  /** One binary message on a WebSocket that has said Hello. */
  | { readonly kind: "message"; readonly bytes: Buffer }
  /** All that is written to a socket before it is ended. */
  | { readonly kind: "websocket" | "http"; readonly bytes: Buffer };

export const kinds = ["message", "websocket", "call", "http", "media"] as const;

/** What inputs are made of besides chance. */
export interface Material {
  readonly tokens: readonly string[];
  readonly pictures: readonly Picture[];
}

const empty = Buffer.alloc(0);
const callPath = "/parley.v1.ChatService/";

/** The bytes of what is one thing with a chance of a half, random ones seldom. */
function variant(bytes: Buffer, dice: Dice, other: Buffer): Buffer {
  const by = dice.random.unit();
  if (by < 0.05) return bytes;
  if (by < 0.1) return dice.bytes(dice.size(2_000));
  return by < 0.6 ? spoiltMessage(bytes, dice) : spoilt(bytes, dice, other);
}

function message(dice: Dice): Buffer {
  return variant(dice.pick(batches) ?? empty, dice, dice.pick(batches) ?? empty);
}

function badToken(token: string, dice: Dice): string {
  const odd = [
    "",
    "no.jwt.at-all",
    "..",
    "a".repeat(9_000),
    `${token}x`,
    token.slice(0, -3),
  ] as const;
  const mended = spoilt(Buffer.from(token), dice).toString("latin1");
  return dice.chance(0.5) ? dice.pick(odd) : mended.replace(/[^!-~]/g, "_").slice(0, 10_000);
}

function authorization(material: Material, dice: Dice): Record<string, string> {
  const token = material.tokens[dice.below(usersMax)] ?? "";
  const by = dice.random.unit();
  if (by < 0.9) return { authorization: `Bearer ${token}` };
  if (by < 0.92) return {};
  const scheme = dice.pick(["Bearer", "Basic", "bearer ", "Bearer Bearer"] as const);
  return { authorization: `${scheme} ${badToken(token, dice)}` };
}

const codecs = [
  "json",
  "proto",
  "grpc-web",
  "grpc-web-text",
  "stream+json",
  "stream+proto",
] as const;
type Codec = (typeof codecs)[number];

const contentTypes: Readonly<Record<Codec, string>> = {
  json: "application/json",
  proto: "application/proto",
  "grpc-web": "application/grpc-web+proto",
  "grpc-web-text": "application/grpc-web-text+proto",
  "stream+json": "application/connect+json",
  "stream+proto": "application/connect+proto",
};

function jsonBody({ json }: Call, dice: Dice): Buffer {
  const value = dice.chance(0.9) ? spoiltJson(json, dice) : json;
  const bytes = Buffer.from(JSON.stringify(value));
  return dice.chance(0.7) ? bytes : spoilt(bytes, dice);
}

/** An envelope of the streaming protocols, whose flags and length may lie. */
function enveloped(bytes: Buffer, dice: Dice): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  if (dice.chance(0.1)) head[0] = dice.below(256);
  if (dice.chance(0.1)) head.writeUInt32BE(dice.pick([0, 1, 0x7fffffff, 0xffffffff] as const), 1);
  const one = Buffer.concat([head, bytes]);
  return dice.chance(0.1) ? Buffer.concat([one, spoilt(one, dice)]) : one;
}

function bodyOf(call: Call, codec: Codec, dice: Dice): Buffer {
  const other = (dice.pick(calls) ?? call).binary;
  const json = codec === "json" || codec === "stream+json";
  const bytes = json ? jsonBody(call, dice) : variant(call.binary, dice, other);
  if (codec === "json" || codec === "proto") return bytes;
  const all = enveloped(bytes, dice);
  return codec === "grpc-web-text" ? Buffer.from(all.toString("base64")) : all;
}

const oddTypes = [
  "",
  "text/plain",
  "application/grpc",
  "application/json; charset=utf-7",
  "application/connect+xml",
  "a/b/c",
] as const;

/** Headers that a call may have, and some that it should not have. */
function extras(dice: Dice): Record<string, string> {
  switch (dice.below(10)) {
    case 0:
      return { "content-encoding": dice.pick(["gzip", "br", "identity", "deflate", "x"] as const) };
    case 1:
      return {
        "connect-timeout-ms": dice.pick(["0", "-1", "1e3", "99999999999", "x", "1"] as const),
      };
    case 2:
      return { "grpc-timeout": dice.pick(["1m", "0S", "99999999H", "x", "-1S"] as const) };
    case 3:
      return { "connect-protocol-version": dice.pick(["1", "2", "", "x"] as const) };
    case 4:
      return { "parley-device": dice.pick(["phone", "x".repeat(65), " ", "\u00e9"] as const) };
    case 5:
      return {
        origin: dice.pick(["null", "http://evil.example", "http://127.0.0.1", "::"] as const),
      };
    case 6:
      return { "accept-encoding": dice.pick(["gzip", "br;q=x", "*", "gzip, br, x"] as const) };
    case 7:
      return { "x-odd": "y".repeat(dice.size(12_000)) };
    case 8:
      return { "connect-content-encoding": dice.pick(["gzip", "br", "x"] as const) };
    default:
      return {};
  }
}

function call(material: Material, dice: Dice): HttpInput {
  const one = dice.pick(calls);
  if (one === undefined) throw new Error("the corpus has no calls");
  const fitting: readonly Codec[] = one.streams ? codecs.slice(2) : codecs.slice(0, 4);
  const codec = dice.pick(dice.chance(0.95) ? fitting : codecs) ?? "json";
  const plain = bodyOf(one, codec, dice);
  const zipped = dice.chance(0.05);
  const body = zipped ? gzipSync(plain) : plain;
  const headers = {
    "content-type": dice.chance(0.97) ? contentTypes[codec] : dice.pick(oddTypes),
    // What waits is answered by then.
    "connect-timeout-ms": "2000",
    ...authorization(material, dice),
    ...(zipped ? { "content-encoding": "gzip" } : {}),
    ...(dice.chance(0.3) ? extras(dice) : {}),
  };
  const name = dice.chance(0.98)
    ? one.method
    : dice.pick(["", "send", "Send/", "%53end", "x".repeat(5_000)] as const);
  const method = dice.chance(0.98)
    ? "POST"
    : dice.pick(["GET", "PUT", "OPTIONS", "DELETE", "HEAD"] as const);
  return { kind: "call", method, path: `${callPath}${name}`, headers, body, streams: one.streams };
}

function media(material: Material, dice: Dice): HttpInput {
  const nth = dice.below(usersMax);
  const headers = { authorization: `Bearer ${material.tokens[nth] ?? ""}` };
  const conversation = dice.pick([
    `d:${userName(nth)}:${peerName}`,
    `d:${userName(nth)}:${peerName}`,
    `d:${userName(nth)}:${peerName}`,
    "d:alice:bob",
    "%00%ff",
  ] as const);
  if (dice.chance(0.2)) {
    const path = dice.pick([
      `/media/${conversation}/${"0".repeat(64)}`,
      `/media/${conversation}/..%2f..%2fetc`,
      "/media/%zz/%",
      `/media/${"x".repeat(dice.size(6_000))}`,
      "/media//",
    ] as const);
    const range = dice.pick([
      "bytes=0-",
      "bytes=-1",
      "bytes=9-1",
      "bytes=0-0,2-3",
      "x",
      "bytes=99999999999999999999-",
    ] as const);
    return {
      kind: "media",
      method: dice.pick(["GET", "HEAD", "PUT"] as const),
      path,
      headers: { ...headers, range },
      body: empty,
      streams: false,
    };
  }
  const picture = dice.pick(material.pictures) ?? { type: "", bytes: empty };
  const other = (dice.pick(material.pictures) ?? picture).bytes;
  const by = dice.random.unit();
  const whole = picture.bytes;
  const cut = whole.subarray(0, dice.below(whole.length + 1));
  const body =
    by < 0.1
      ? whole
      : by < 0.3
        ? cut
        : by < 0.35
          ? dice.bytes(dice.size(5_000))
          : spoilt(whole, dice, other);
  const type = dice.chance(0.8)
    ? picture.type
    : dice.pick(["", "image/png", "multipart/form-data", "text/html"] as const);
  const path = `/media?conversation=${conversation}`;
  return {
    kind: "media",
    method: "POST",
    path,
    headers: { ...headers, "content-type": type },
    body,
    streams: false,
  };
}

/** A frame of the WebSocket protocol as a client writes it: masked, and perhaps not as it must be. */
function socketFrame(payload: Buffer, dice: Dice): Buffer {
  const odd = dice.chance(0.4);
  const opcode = odd ? dice.below(16) : 2;
  const flags = odd ? dice.below(16) << 4 : 0x80;
  const masked = !odd || dice.chance(0.8) ? 0x80 : 0;
  const claimed = odd && dice.chance(0.2) ? dice.size(2 ** 40) : payload.length;
  const length =
    claimed < 126
      ? Buffer.from([masked | claimed])
      : claimed < 65_536
        ? Buffer.from([masked | 126, claimed >> 8, claimed & 255])
        : Buffer.concat([Buffer.from([masked | 127]), eight(claimed)]);
  const mask = masked === 0 ? empty : dice.bytes(4);
  const body = Buffer.from(payload);
  if (masked !== 0)
    for (let at = 0; at < body.length; at += 1) body[at] = (body[at] ?? 0) ^ (mask[at & 3] ?? 0);
  return Buffer.concat([Buffer.from([flags | opcode]), length, mask, body]);
}

function eight(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

function upgradeHead(path: string): string {
  return [
    `GET ${path} HTTP/1.1`,
    "host: 127.0.0.1",
    "connection: upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-protocol: parley.v1",
    "",
    "",
  ].join("\r\n");
}

function websocket(material: Material, dice: Dice): Buffer {
  const head = Buffer.from(upgradeHead("/ws"));
  const nth = dice.below(usersMax);
  const hello = helloBatch(material.tokens[nth] ?? "", `raw${dice.below(4)}`);
  const parts = [dice.chance(0.1) ? spoilt(head, dice) : head];
  if (dice.chance(0.5)) parts.push(plainFrame(hello));
  for (let left = 1 + dice.below(4); left > 0; left -= 1)
    parts.push(socketFrame(dice.chance(0.7) ? message(dice) : dice.bytes(dice.size(200)), dice));
  const all = Buffer.concat(parts);
  const kept = parts[0]?.length ?? 0;
  if (dice.chance(0.7)) return all;
  return Buffer.concat([all.subarray(0, kept), spoilt(all.subarray(kept), dice)]);
}

/** With a mask of zeros. */
function plainFrame(payload: Buffer): Buffer {
  const { length } = payload;
  const head = length < 126 ? [0x82, 0x80 | length] : [0x82, 0xfe, length >> 8, length & 255];
  return Buffer.concat([Buffer.from([...head, 0, 0, 0, 0]), payload]);
}

/** Requests that no library would make. */
function http(material: Material, dice: Dice): Buffer {
  const verb = dice.pick([
    "GET",
    "POST",
    "HEAD",
    "OPTIONS",
    "CONNECT",
    "TRACE",
    "BREW",
    "get",
    "PRI",
    "",
  ] as const);
  const path = dice.pick([
    "/",
    "/ws",
    "/healthz",
    "/readyz",
    "/media",
    "/media/x/y",
    `${callPath}Send`,
    `${callPath}Sync`,
    "*",
    "//",
    "/..",
    "http://evil.example/",
    "/%",
    `/${"x".repeat(dice.size(20_000))}`,
  ] as const);
  const version = dice.chance(0.9)
    ? "HTTP/1.1"
    : dice.pick(["HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "X", ""] as const);
  const body = dice.chance(0.5)
    ? jsonBody(dice.pick(calls) ?? { method: "", streams: false, json: {}, binary: empty }, dice)
    : empty;
  const length = dice.chance(0.8)
    ? String(body.length)
    : dice.pick(["-1", "1e9", "99999999999999999999", "0x10", "", "3, 4"] as const);
  const odd = [
    `content-length: ${length}`,
    "transfer-encoding: chunked",
    "transfer-encoding: x, chunked",
    "content-type: application/json",
    "connection: upgrade\r\nupgrade: h2c",
    "expect: 100-continue",
    "expect: tea",
    `x-long: ${"z".repeat(dice.size(40_000))}`,
    "cookie: a=b\0c",
    "bad header: x",
    " folded",
    `authorization: Bearer ${badToken(material.tokens[0] ?? "", dice)}`,
    "host: a\r\nhost: b",
    "x-forwarded-for: ,,,",
    "origin: \u00ff",
    `x-many: 1${"\r\nx-many: 1".repeat(dice.size(1_500))}`,
  ] as const;
  const lines = [`${verb} ${path} ${version}`];
  if (dice.chance(0.9)) lines.push("host: 127.0.0.1");
  if (dice.chance(0.7))
    lines.push(`authorization: Bearer ${material.tokens[dice.below(usersMax)] ?? ""}`);
  if (dice.chance(0.6)) lines.push("content-type: application/json", `content-length: ${length}`);
  for (let left = dice.below(4); left > 0; left -= 1) lines.push(dice.pick(odd));
  const all = Buffer.concat([Buffer.from([...lines, "", ""].join("\r\n"), "latin1"), body]);
  return dice.chance(0.6) ? all : spoilt(all, dice);
}

/** Input number `nth` of the run with the seed. */
export function inputOf(seed: number, nth: number, material: Material): Input {
  const dice = new Dice(seededRandom(hash32(`${seed}/${nth}`)));
  const by = dice.random.unit();
  if (by < 0.38) return { kind: "message", bytes: message(dice) };
  if (by < 0.5) return { kind: "websocket", bytes: websocket(material, dice) };
  if (by < 0.84) return call(material, dice);
  if (by < 0.96) return { kind: "http", bytes: http(material, dice) };
  return media(material, dice);
}
