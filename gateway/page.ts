/** The web page: its files, read once at the start and answered from memory, and the policy under which browsers run it. */
import { hash as digest } from "node:crypto";
import { readFile, readdir } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { extname, join, relative, sep } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

/** Answers what belongs to the page; false: something else has to. */
export type PageHandler = (
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
) => boolean;

/** What no built page comes near to: whoever names the wrong directory is told so, instead of memory being filled. */
const bytesMax = 64 * 1024 * 1024;
const filesMax = 2_000;
/** Names below here have a hash of the content in them. */
const hashedPrefix = "/assets/";

const types: Readonly<Record<string, string>> = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".ico": "image/x-icon",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".txt": "text/plain; charset=utf-8",
  ".webmanifest": "application/manifest+json",
  ".woff2": "font/woff2",
};
const compressible = /^text\/|json|svg/;

interface PageFile {
  readonly type: string;
  readonly bytes: Buffer;
  /** Undefined where it would not be smaller. */
  readonly gzipped: Buffer | undefined;
  readonly etag: string;
  readonly cacheControl: string;
}

/**
 * `connect`: the origins that the page may call besides its own. Throws an Error that says what to do where the directory holds no built page.
 */
export async function openPage(
  directory: string,
  connect: readonly string[],
): Promise<PageHandler> {
  const files = await readFiles(directory);
  const index = files.get("/index.html");
  if (index === undefined)
    throw new Error(`${directory} holds no built page (index.html): make one with npm run build`);
  files.set("/", index);
  const policy = contentSecurityPolicy(connect);
  return (path, request, response) => {
    const file = files.get(path);
    const { method } = request;
    if (file === undefined || (method !== "GET" && method !== "HEAD")) return false;
    response.setHeader("content-security-policy", policy);
    response.setHeader("cross-origin-opener-policy", "same-origin");
    response.setHeader("permissions-policy", "camera=(), geolocation=(), microphone=()");
    response.setHeader("cache-control", file.cacheControl);
    answer(file, request, response);
    return true;
  };
}

/**
 * Scripts and styles from here alone and none inline; images from here, and those that the page fetched from here with its token (blob:).
 */
function contentSecurityPolicy(connect: readonly string[]): string {
  return [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob:",
    "font-src 'self'",
    "manifest-src 'self'",
    "worker-src 'self'",
    ["connect-src 'self'", ...connect].join(" "),
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}

async function readFiles(directory: string): Promise<Map<string, PageFile>> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const found = entries.filter((entry) => entry.isFile());
  if (found.length > filesMax)
    throw new Error(`${directory} has ${found.length} files: that is no built page`);
  const files = new Map<string, PageFile>();
  let size = 0;
  for (const entry of found) {
    const path = join(entry.parentPath, entry.name);
    const name = "/" + relative(directory, path).split(sep).map(encodeURIComponent).join("/");
    const bytes = await readFile(path);
    size += bytes.length;
    if (size > bytesMax)
      throw new Error(`${directory} has more than ${bytesMax} bytes: that is no built page`);
    files.set(name, await pageFile(name, bytes));
  }
  return files;
}

async function pageFile(name: string, bytes: Buffer): Promise<PageFile> {
  const type = types[extname(name)] ?? "application/octet-stream";
  const small = compressible.test(type) ? await promisify(gzip)(bytes, { level: 9 }) : bytes;
  return {
    type,
    bytes,
    gzipped: small.length < bytes.length ? small : undefined,
    etag: digest("sha256", bytes, "base64url").slice(0, 22),
    cacheControl: name.startsWith(hashedPrefix)
      ? "public, max-age=31536000, immutable"
      : "no-cache",
  };
}

function answer(file: PageFile, request: IncomingMessage, response: ServerResponse): void {
  const accepted = String(request.headers["accept-encoding"] ?? "");
  const packed = /\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))/i.test(accepted) ? file.gzipped : undefined;
  const etag = `"${file.etag}${packed === undefined ? "" : "-gzip"}"`;
  response.setHeader("vary", "Origin, Accept-Encoding");
  response.setHeader("etag", etag);
  if (request.headers["if-none-match"]?.includes(file.etag)) {
    response.writeHead(304).end();
    return;
  }
  const body = packed ?? file.bytes;
  if (packed !== undefined) response.setHeader("content-encoding", "gzip");
  response.writeHead(200, { "content-type": file.type, "content-length": body.length });
  response.end(request.method === "HEAD" ? undefined : body);
}
