/** Media in an S3-compatible store, named by the hash of their bytes. It must not know which conversation they are in. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import {
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
} from "@aws-sdk/client-s3";
import { ConnectError } from "@connectrpc/connect";
import type { EnvReader } from "../mesh/env.ts";
import { unavailable } from "../mesh/errors.ts";
import { newId, type Random } from "../mesh/random.ts";
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
const triesMax = 4;

export function openS3Media(config: S3Config, { random }: { random: Random }): MediaStore {
  const { endpoint, region, accessKeyId, secretAccessKey, bucket } = config;
  const client = new S3Client({
    region,
    maxAttempts: triesMax,
    ...(endpoint === undefined ? {} : { endpoint, forcePathStyle: true }),
    ...(accessKeyId === undefined || secretAccessKey === undefined
      ? {}
      : { credentials: { accessKeyId, secretAccessKey } }),
    requestHandler: { connectionTimeout: 5_000, requestTimeout: 30_000 },
  });
  return new S3Media(client, bucket, random);
}

class S3Media implements MediaStore {
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #random: Random;

  constructor(client: S3Client, bucket: string, random: Random) {
    this.#client = client;
    this.#bucket = bucket;
    this.#random = random;
  }

  /** The name is known when all the bytes are, so that they gather in a file first. */
  async put(chunks: AsyncIterable<Uint8Array>): Promise<{ mediaId: string; size: number }> {
    const path = join(tmpdir(), `parley-upload-${newId(this.#random)}`);
    try {
      const { mediaId, size } = await spooled(path, chunks);
      if (!(await this.has(mediaId))) await this.#upload(path, mediaId, size);
      return { mediaId, size };
    } finally {
      await rm(path, { force: true });
    }
  }

  async #upload(path: string, mediaId: string, size: number): Promise<void> {
    const command = new PutObjectCommand({
      Bucket: this.#bucket,
      Key: mediaId,
      Body: createReadStream(path),
      ContentLength: size,
    });
    await this.#client.send(command).catch(translate);
  }

  async *get(mediaId: string, offset: number, length: number): AsyncGenerator<Uint8Array, void> {
    if (!mediaIdPattern.test(mediaId) || !(await this.has(mediaId))) throw noMedia(mediaId);
    if (length <= 0) return;
    const command = new GetObjectCommand({
      Bucket: this.#bucket,
      Key: mediaId,
      Range: `bytes=${offset}-${offset + length - 1}`,
    });
    const body = await this.#client.send(command).then(
      (answer) => answer.Body,
      (error: unknown) => (isStatus(error, 416) ? undefined : translate(error)),
    );
    if (!(body instanceof Readable)) return;
    try {
      for await (const bytes of body) {
        if (!(bytes instanceof Uint8Array)) continue;
        for (let at = 0; at < bytes.length; at += mediaChunkBytes)
          yield bytes.subarray(at, at + mediaChunkBytes);
      }
    } catch (error) {
      translate(error);
    }
  }

  async has(mediaId: string): Promise<boolean> {
    if (!mediaIdPattern.test(mediaId)) return false;
    const command = new HeadObjectCommand({ Bucket: this.#bucket, Key: mediaId });
    return this.#client.send(command).then(
      () => true,
      (error: unknown) => {
        if (isStatus(error, 404)) return false;
        return translate(error);
      },
    );
  }
}

async function spooled(
  path: string,
  chunks: AsyncIterable<Uint8Array>,
): Promise<{ mediaId: string; size: number }> {
  const hash = createHash("sha256");
  let size = 0;
  const file = await open(path, "wx", 0o600);
  try {
    for await (const chunk of chunks) {
      hash.update(chunk);
      size += chunk.length;
      await file.writeFile(chunk);
    }
  } finally {
    await file.close();
  }
  return { mediaId: hash.digest("hex"), size };
}

const isStatus = (error: unknown, code: number): boolean =>
  error instanceof S3ServiceException && error.$metadata.httpStatusCode === code;

function translate(error: unknown): never {
  if (error instanceof ConnectError) throw error;
  const reason = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  throw unavailable(`the store of media does not take or give it: ${reason}`, 1_000, error);
}
