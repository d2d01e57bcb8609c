/** /media: images in, before they are sent, and out again, to members only. It must not know where they are kept. */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { create, fromBinary, toJson } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import { invalid, noConversation, overloaded, publicError } from "../mesh/errors.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import type {
  MediaHeader,
  PageResult,
  PutMediaRequest,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { AttachmentSchema, RecordSchema } from "../proto/gen/parley/v1/record_pb.ts";
import { refusal, sendError, sendJson } from "./answer.ts";
import { bearerToken } from "./auth.ts";
import { readBody } from "./body.ts";
import { isOwnDirect } from "./destination.ts";
import { createImageReader, imageLimits, imageTypes } from "./image.ts";
import type { Found, ImageLimits, ImageReader } from "./image.ts";
import type { Authenticator } from "./ports.ts";
import { Places, Quota } from "./quota.ts";

export interface MediaLimits {
  readonly mediaMaxBytes: number;
  /** Uploads under way: of one user, and of all, each of which may hold mediaMaxBytes of memory. */
  readonly uploadsPerUserMax: number;
  readonly uploadsMax: number;
  /** Requests of one user, up and down. */
  readonly requestsPerSecond: number;
  readonly requestsBurst: number;
  /** An upload ends when nothing came for so long, and after so long at the latest. */
  readonly silentMs: number;
  readonly uploadMs: number;
  /** For each call of storage, but for the bytes on their way out. */
  readonly storageMs: number;
  readonly image: ImageLimits;
}

export const mediaLimits: MediaLimits = {
  mediaMaxBytes: 10 * 1_024 * 1_024,
  uploadsPerUserMax: 4,
  uploadsMax: 16,
  requestsPerSecond: 20,
  requestsBurst: 200,
  silentMs: 15_000,
  uploadMs: 110_000,
  storageMs: 10_000,
  image: imageLimits,
};

export type MediaHandler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

const chunkBytes = 65_536;
const conversationBytesMax = 300;
const mediaIdPattern = /^[0-9a-f]{64}$/;

/** Answers every request itself; never rejects. */
export function createMedia(
  surroundings: Surroundings,
  auth: Authenticator,
  limits: MediaLimits = mediaLimits,
  images: ImageReader = createImageReader(limits.image),
): MediaHandler {
  const media = new Media(surroundings, auth, limits, images);
  return async (request, response) => {
    try {
      await media.handle(request, response);
    } catch (error) {
      if (!(error instanceof ConnectError) || error.code === Code.Internal)
        surroundings.log.error({ err: error, method: request.method }, "a media request failed");
      sendError(response, error instanceof ConnectError ? error : publicError(error));
    }
  };
}

/** A request that was let in. */
interface Asked {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  readonly userId: string;
  /** Fires when the client went away. */
  readonly signal: AbortSignal;
}

class Media {
  readonly #storage: Client<typeof StorageService>;
  readonly #surroundings: Surroundings;
  readonly #auth: Authenticator;
  readonly #limits: MediaLimits;
  readonly #images: ImageReader;
  readonly #quota: Quota;
  readonly #userUploads: Places;
  readonly #uploads: Places;

  constructor(
    surroundings: Surroundings,
    auth: Authenticator,
    limits: MediaLimits,
    images: ImageReader,
  ) {
    this.#storage = createClient(StorageService, surroundings.transport(StorageService));
    this.#surroundings = surroundings;
    this.#auth = auth;
    this.#limits = limits;
    this.#images = images;
    this.#quota = new Quota(surroundings.clock, limits.requestsPerSecond, limits.requestsBurst);
    this.#userUploads = new Places(limits.uploadsPerUserMax);
    this.#uploads = new Places(limits.uploadsMax);
  }

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { userId } = await this.#auth.verify(bearerToken(request.headers.authorization));
    const waitMs = this.#quota.take(userId);
    if (waitMs > 0) throw overloaded("too many media requests of this user", waitMs);
    const url = new URL(request.url ?? "/", "http://edge");
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    const asked = { request, response, url, userId, signal: gone.signal };
    const reads = request.method === "GET" || request.method === "HEAD";
    if (url.pathname === "/media" && request.method === "POST") return this.#upload(asked);
    if (url.pathname !== "/media" && reads) return this.#download(asked);
    throw refusal(
      405,
      "upload by POST /media?conversation=ID, download by GET /media/CONVERSATION/MEDIA",
      Code.Unimplemented,
    );
  }

  async #upload(asked: Asked): Promise<void> {
    const conversationId = conversationName(asked.url.searchParams.get("conversation") ?? "");
    const { request, userId } = asked;
    const { mediaMaxBytes } = this.#limits;
    const claimedBytes = Number(request.headers["content-length"] ?? 0);
    if (claimedBytes > mediaMaxBytes)
      throw refusal(413, `the image has ${claimedBytes} bytes; at most ${mediaMaxBytes} are taken`);
    const page = await this.#look(conversationId, asked);
    if (!mayWrite(page, conversationId, userId)) throw noConversation(conversationId);
    const ownPlace = this.#userUploads.take(userId);
    const place = ownPlace === undefined ? undefined : this.#uploads.take("all");
    try {
      if (place === undefined) throw overloaded("too many uploads are under way", 2_000);
      const { silentMs, uploadMs } = this.#limits;
      const bounds = { maxBytes: mediaMaxBytes, silentMs, uploadMs };
      const bytes = await readBody(request, this.#surroundings.clock, bounds);
      if (bytes.length === 0) throw invalid("the body is empty: it must be the bytes of an image");
      const found = await this.#images.read(bytes, request.headers["content-type"], asked.signal);
      await this.#keep(conversationId, bytes, found, asked);
    } finally {
      place?.();
      ownPlace?.();
    }
  }

  async #keep(conversationId: string, bytes: Buffer, found: Found, asked: Asked): Promise<void> {
    const { mediaType, width, height, thumbnail } = found;
    const size = bytes.length;
    const kept = { conversationId, mediaId: "", mediaType, size, width, height, thumbnail };
    const parts = putParts(
      { $typeName: "parley.storage.v1.MediaHeader", ...kept },
      bytes,
      asked.userId,
    );
    const { signal } = asked;
    const answer = await this.#storage.putMedia(parts, {
      signal,
      timeoutMs: this.#limits.storageMs,
    });
    const mediaId = answer.header?.mediaId ?? "";
    const attachment = create(AttachmentSchema, {
      mediaId,
      mediaType,
      size,
      width,
      height,
      thumbnail,
    });
    const { userId } = asked;
    this.#surroundings.log.debug({ userId, conversationId, mediaId, size }, "an image was kept");
    sendJson(asked.response, 201, toJson(AttachmentSchema, attachment) as object);
  }

  async #download(asked: Asked): Promise<void> {
    const { request, response, userId, signal } = asked;
    const { conversationId, mediaId } = mediaName(asked.url.pathname);
    const page = await this.#look(conversationId, asked);
    if (!page.found && !isOwnDirect(conversationId, userId)) throw noConversation(conversationId);
    const header = await this.#header(conversationId, mediaId, signal);
    const { size, mediaType } = header;
    const etag = `"${mediaId}"`;
    response.setHeaders(new Map(Object.entries(mediaHeaders(etag, mediaType))));
    if (matches(request.headers["if-none-match"], etag)) {
      response.writeHead(304).end();
      return;
    }
    const range = wantedRange(request.headers, etag, size);
    if (range === "none") {
      response.setHeader("content-range", `bytes */${size}`);
      throw refusal(416, `the medium has ${size} bytes`, Code.OutOfRange);
    }
    const { first, length } = range ?? { first: 0, length: size };
    if (range !== undefined)
      response.setHeader("content-range", `bytes ${first}-${first + length - 1}/${size}`);
    response.writeHead(range === undefined ? 200 : 206, {
      "content-type": imageTypes.includes(mediaType) ? mediaType : "application/octet-stream",
      "content-length": length,
    });
    if (request.method === "HEAD" || length === 0) {
      response.end();
      return;
    }
    await this.#send(response, { conversationId, mediaId, offset: first, length }, signal);
  }

  async #send(
    response: ServerResponse,
    wanted: { conversationId: string; mediaId: string; offset: number; length: number },
    signal: AbortSignal,
  ): Promise<void> {
    const parts = this.#storage.getMedia(wanted, { signal });
    async function* bytes(): AsyncGenerator<Uint8Array, undefined> {
      for await (const { part } of parts) if (part.case === "chunk") yield part.value;
      return undefined;
    }
    try {
      await pipeline(Readable.from(bytes()), response, { signal });
    } catch (error) {
      // What was promised by Content-Length is not all there: only a cut connection says so.
      const { conversationId, mediaId } = wanted;
      const { log } = this.#surroundings;
      if (!signal.aborted) log.warn({ err: error, conversationId, mediaId }, "a download was cut");
      response.destroy();
    }
  }

  /** The newest of what the user may see of the conversation. */
  async #look(conversationId: string, { userId, signal }: Asked): Promise<PageResult> {
    const pages = [{ conversationId, userId, limit: 1 }];
    const timeoutMs = this.#limits.storageMs;
    const answer = await this.#storage.read({ pages }, { signal, timeoutMs });
    const [page] = answer.pages;
    if (page === undefined)
      throw new ConnectError("storage answered without a page", Code.Internal);
    return page;
  }

  async #header(
    conversationId: string,
    mediaId: string,
    signal: AbortSignal,
  ): Promise<MediaHeader> {
    const wanted = { conversationId, mediaId, headerOnly: true };
    const timeoutMs = this.#limits.storageMs;
    for await (const { part } of this.#storage.getMedia(wanted, { signal, timeoutMs }))
      if (part.case === "header") return part.value;
    throw new ConnectError(`there is no medium ${mediaId} in ${conversationId}`, Code.NotFound);
  }
}

function* chunksOf(bytes: Buffer): Generator<Uint8Array, undefined> {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
  return undefined;
}

async function* putParts(
  header: MediaHeader,
  bytes: Buffer,
  uploaderId: string,
): AsyncGenerator<PutMediaRequest, undefined> {
  const $typeName = "parley.storage.v1.PutMediaRequest";
  yield { $typeName, part: { case: "header", value: header }, uploaderId };
  for (const value of chunksOf(bytes))
    yield { $typeName, part: { case: "chunk", value }, uploaderId: "" };
  return undefined;
}

function conversationName(id: string): string {
  if (id === "" || id.length > conversationBytesMax)
    throw invalid("name the conversation: POST /media?conversation=ID");
  return id;
}

function mediaName(path: string): { conversationId: string; mediaId: string } {
  const parts = path.split("/").slice(2);
  const [conversation = "", mediaId = ""] = parts;
  if (parts.length !== 2 || !mediaIdPattern.test(mediaId))
    throw refusal(404, "a medium's address is /media/CONVERSATION/MEDIA", Code.NotFound);
  try {
    return { conversationId: conversationName(decodeURIComponent(conversation)), mediaId };
  } catch {
    throw refusal(404, "a medium's address is /media/CONVERSATION/MEDIA", Code.NotFound);
  }
}

/**
 * Who left sees the log up to the record that says so; that one is then the newest. A direct conversation begins with its first
 * message, which may be an image: both users may upload before it is there.
 */
function mayWrite(page: PageResult, conversationId: string, userId: string): boolean {
  if (!page.found) return isOwnDirect(conversationId, userId);
  const [newest] = page.records;
  if (newest === undefined) return true;
  const { body } = fromBinary(RecordSchema, newest);
  return body.case !== "membership" || !body.value.removed.includes(userId);
}

function mediaHeaders(etag: string, mediaType: string): Record<string, string> {
  return {
    etag,
    "accept-ranges": "bytes",
    "cache-control": "private, max-age=31536000, immutable",
    "content-disposition": imageTypes.includes(mediaType) ? "inline" : "attachment",
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "same-site",
    "x-content-type-options": "nosniff",
  };
}

function matches(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  return header.split(",").some((one) => ["*", etag, `W/${etag}`].includes(one.trim()));
}

/** undefined: all of it. "none": a range that is not there. Several ranges, and what is no range, are answered with all. */
function wantedRange(
  headers: IncomingHttpHeaders,
  etag: string,
  size: number,
): { first: number; length: number } | "none" | undefined {
  const { range } = headers;
  const condition = headers["if-range"];
  if (range === undefined || (condition !== undefined && condition !== etag)) return undefined;
  const [, from = "", to = ""] = /^bytes=(\d*)-(\d*)$/.exec(range.trim()) ?? [];
  if (from === "" && to === "") return undefined;
  if (from === "") {
    const length = Math.min(Number(to), size);
    return length === 0 ? "none" : { first: size - length, length };
  }
  const first = Number(from);
  const last = to === "" ? size - 1 : Math.min(Number(to), size - 1);
  if (to !== "" && Number(to) < first) return undefined;
  return first >= size ? "none" : { first, length: last - first + 1 };
}
