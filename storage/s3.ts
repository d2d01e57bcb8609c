/** Media in an S3-compatible store, named by the hash of their bytes. It must not know which conversation they are in. */
import { createHash } from "node:crypto";
import { open, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
} from "@aws-sdk/client-s3";
import type { S3ClientConfig } from "@aws-sdk/client-s3";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import { type Clock, sleep } from "../mesh/clock.ts";
import type { EnvReader } from "../mesh/env.ts";
import { overloaded, retryAfterHeader, unavailable } from "../mesh/errors.ts";
import { newId, type Random } from "../mesh/random.ts";
import { writeError } from "./disk.ts";
import { noMedia } from "./errors.ts";
import { mediaChunkBytes } from "./media.ts";
import type { MediaStore } from "./ports.ts";

export interface S3Config {
  readonly bucket: string;
  /** Undefined: AWS's own. */
  readonly endpoint: string | undefined;
  readonly region: string;
  /** Undefined: found as the SDK does (environment, files, the machine's role). */
  readonly accessKeyId: string | undefined;
  readonly secretAccessKey: string | undefined;
}

/** Undefined: no bucket is named. */
export function s3Config(read: EnvReader): S3Config | undefined {
  const bucket = read.optional("S3_BUCKET", "the bucket of an S3-compatible store for images");
  const endpoint = read.optional("S3_ENDPOINT", "where that store is; empty: AWS");
  const region = read.string("S3_REGION", "us-east-1", "its region");
  const accessKeyId = read.optional(
    "S3_ACCESS_KEY_ID",
    "the key to it; empty: found as AWS's own tools do",
  );
  const secretAccessKey = read.optional("S3_SECRET_ACCESS_KEY", "the key's secret");
  if (endpoint !== undefined && !URL.canParse(endpoint))
    read.wrong(`PARLEY_S3_ENDPOINT must be an address, not "${endpoint}"`);
  if ((accessKeyId === undefined) !== (secretAccessKey === undefined))
    read.wrong("PARLEY_S3_ACCESS_KEY_ID and PARLEY_S3_SECRET_ACCESS_KEY belong together");
  if (bucket === undefined) return undefined;
  return { bucket, endpoint, region, accessKeyId, secretAccessKey };
}

const mediaIdPattern = /^[0-9a-f]{64}$/;
const triesMax = 3;
const connectMs = 5_000;
/** Each has a file and a connection. */
const uploadsMax = 64;
const socketsMax = 128;
const retryAfterMs = 1_000;
const lookEveryMs = 2_000;

export interface S3Deps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** How long the store may be silent in the midst of a request. */
  readonly idleMs?: number;
}

export interface S3MediaStore extends MediaStore {
  /** Resolves when the bucket is there and may be used. Says why not meanwhile, each reason once; ends with the signal. */
  waitForBucket(waits: (reason: string) => void, signal: AbortSignal): Promise<void>;
}

export function openS3Media(config: S3Config, deps: S3Deps): S3MediaStore {
  const { endpoint, region, accessKeyId, secretAccessKey } = config;
  const agent = { keepAlive: true, maxSockets: socketsMax };
  const client = new S3Client({
    region,
    maxAttempts: triesMax,
    logger: loggerOf(deps.log),
    ...(endpoint === undefined ? {} : { endpoint, forcePathStyle: true }),
    ...(accessKeyId === undefined || secretAccessKey === undefined
      ? {}
      : { credentials: { accessKeyId, secretAccessKey } }),
    // Not every store knows the SDK's own checksums. What is uploaded has its SHA-256 with it.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    // Of silence: the SDK's time for a whole request only warns, and how long one may take depends on its size.
    requestHandler: {
      connectionTimeout: connectMs,
      socketTimeout: deps.idleMs ?? 10_000,
      httpAgent: agent,
      httpsAgent: agent,
    },
  });
  return new S3Media(client, config, deps);
}

/** The SDK would write to the console. What it asks for at less than a warning nobody needs. */
function loggerOf(log: Logger): NonNullable<S3ClientConfig["logger"]> {
  const none = (): void => undefined;
  const say = (said: unknown): void => log.debug(`the S3 client says: ${String(said)}`);
  return { trace: none, debug: none, info: none, warn: say, error: none };
}

class S3Media implements S3MediaStore {
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #place: string;
  readonly #deps: S3Deps;
  #uploads = 0;

  constructor(client: S3Client, { bucket, endpoint = "AWS" }: S3Config, deps: S3Deps) {
    this.#client = client;
    this.#bucket = bucket;
    this.#place = `the bucket ${bucket} at ${endpoint}`;
    this.#deps = deps;
  }

  async waitForBucket(waits: (reason: string) => void, signal: AbortSignal): Promise<void> {
    let told = "";
    for (;;) {
      const reason = await this.#lack(signal);
      signal.throwIfAborted();
      if (reason === undefined) return;
      const sentence = `${this.#place} cannot be used: ${reason}`;
      if (sentence !== told) {
        waits(sentence);
        this.#deps.log.warn(sentence);
      }
      told = sentence;
      await sleep(this.#deps.clock, lookEveryMs, signal);
    }
  }

  #lack(abortSignal: AbortSignal): Promise<string | undefined> {
    const command = new HeadBucketCommand({ Bucket: this.#bucket });
    return this.#client.send(command, { abortSignal }).then(
      () => undefined,
      (error: unknown) => {
        if (isStatus(error, 404)) return "there is none of that name";
        if (isStatus(error, 403)) return "the key may not";
        return reasonOf(error);
      },
    );
  }

  /** The name is known when all the bytes are, so that they gather in a file first. */
  async put(chunks: AsyncIterable<Uint8Array>): Promise<{ mediaId: string; size: number }> {
    if (this.#uploads >= uploadsMax)
      throw overloaded(`${uploadsMax} uploads are under way, which is the most at once`);
    this.#uploads += 1;
    try {
      return await this.#put(chunks);
    } finally {
      this.#uploads -= 1;
    }
  }

  async #put(chunks: AsyncIterable<Uint8Array>): Promise<{ mediaId: string; size: number }> {
    const file = await openNameless(this.#deps.random);
    try {
      const { hash, size } = await spool(file, chunks);
      const mediaId = hash.toString("hex");
      if (!(await this.has(mediaId))) {
        const command = new PutObjectCommand({
          Bucket: this.#bucket,
          Key: mediaId,
          Body: file.createReadStream({ start: 0, autoClose: false }),
          ContentLength: size,
          ChecksumSHA256: hash.toString("base64"),
        });
        await this.#client.send(command).catch((error: unknown) => this.#fail(error));
      }
      return { mediaId, size };
    } finally {
      await file.close();
    }
  }

  async *get(mediaId: string, offset: number, length: number): AsyncGenerator<Uint8Array, void> {
    if (!mediaIdPattern.test(mediaId)) throw noMedia(mediaId);
    if (length <= 0) {
      if (!(await this.has(mediaId))) throw noMedia(mediaId);
      return;
    }
    try {
      const { Body: body } = await this.#client.send(
        new GetObjectCommand({
          Bucket: this.#bucket,
          Key: mediaId,
          Range: `bytes=${offset}-${offset + length - 1}`,
        }),
      );
      if (!(body instanceof Readable)) return;
      for await (const bytes of body as AsyncIterable<Uint8Array>) {
        for (let at = 0; at < bytes.length; at += mediaChunkBytes)
          yield bytes.subarray(at, at + mediaChunkBytes);
      }
    } catch (error) {
      // There is nothing from that offset on.
      if (isStatus(error, 416)) return;
      if (isStatus(error, 404) && !isNamed(error, "NoSuchBucket")) throw noMedia(mediaId);
      this.#fail(error);
    }
  }

  /** A bucket that keeps versions keeps this one, too: see docs/operations.md. */
  async remove(mediaId: string): Promise<void> {
    if (!mediaIdPattern.test(mediaId)) return;
    const command = new DeleteObjectCommand({ Bucket: this.#bucket, Key: mediaId });
    await this.#client.send(command).catch((error: unknown) => this.#fail(error));
  }

  async has(mediaId: string): Promise<boolean> {
    if (!mediaIdPattern.test(mediaId)) return false;
    const command = new HeadObjectCommand({ Bucket: this.#bucket, Key: mediaId });
    return this.#client.send(command).then(
      () => true,
      (error: unknown) => (isStatus(error, 404) ? false : this.#fail(error)),
    );
  }

  #fail(error: unknown): never {
    if (error instanceof ConnectError) throw error;
    const reason = `${this.#place} does not take or give an image: ${reasonOf(error)}`;
    if (!isStatus(error, 429) && !isStatus(error, 503))
      throw unavailable(reason, retryAfterMs, error);
    const header = { [retryAfterHeader]: String(retryAfterMs) };
    throw new ConnectError(reason, Code.ResourceExhausted, header, undefined, error);
  }
}

/** A file that nothing is left of when the process ends, however it ends. */
async function openNameless(random: Random): Promise<FileHandle> {
  const path = join(tmpdir(), `parley-upload-${newId(random)}`);
  try {
    const file = await open(path, "wx+", 0o600);
    await rm(path);
    return file;
  } catch (error) {
    throw writeError(tmpdir(), error);
  }
}

async function spool(
  file: FileHandle,
  chunks: AsyncIterable<Uint8Array>,
): Promise<{ hash: Buffer; size: number }> {
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of chunks) {
    hash.update(chunk);
    size += chunk.length;
    await file.appendFile(chunk).catch((error: unknown) => {
      throw writeError(tmpdir(), error);
    });
  }
  return { hash: hash.digest(), size };
}

const isStatus = (error: unknown, code: number): boolean =>
  error instanceof S3ServiceException && error.$metadata.httpStatusCode === code;

const isNamed = (error: unknown, name: string): boolean =>
  error instanceof Error && error.name === name;

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { name, message } = error;
  // Where nobody listens at several addresses the message is empty.
  const code = "code" in error ? String(error.code) : name;
  return message === "" ? code : `${name}: ${message}`;
}
