/** Finds out what an upload really is: its type, its size in pixels, a small preview. Hostile bytes cost bounded time and memory. */
import { fileTypeFromBuffer } from "file-type";
import sharp from "sharp";
import type { Metadata, Sharp } from "sharp";
import { Code, ConnectError } from "@connectrpc/connect";
import { abortError, overloaded } from "../mesh/errors.ts";
import { refusal } from "./answer.ts";

/** An upload, as found in its bytes. */
export interface Found {
  readonly mediaType: string;
  /** Pixels, as it is shown (turned where the camera says so). */
  readonly width: number;
  readonly height: number;
  /** WebP, at most 4 KiB. */
  readonly thumbnail: Uint8Array;
}

export interface ImageLimits {
  /** Of one picture. */
  readonly pixelsMax: number;
  readonly atOnceMax: number;
  readonly waitingMax: number;
  /** For one step of the work on one image. */
  readonly workSeconds: number;
}

export const imageLimits: ImageLimits = {
  pixelsMax: 50_000_000,
  atOnceMax: 2,
  waitingMax: 32,
  workSeconds: 10,
};

export const thumbnailBytesMax = 4_096;
/** All pictures of an animation together may have so many times the pixels of one. */
const animationFactor = 20;

/** The types that are taken, and what sharp calls their formats. An animated PNG is a PNG to whoever does not know better. */
const formats: Readonly<Record<string, { mediaType: string; format: string }>> = {
  "image/png": { mediaType: "image/png", format: "png" },
  "image/apng": { mediaType: "image/png", format: "png" },
  "image/jpeg": { mediaType: "image/jpeg", format: "jpeg" },
  "image/webp": { mediaType: "image/webp", format: "webp" },
  "image/gif": { mediaType: "image/gif", format: "gif" },
  "image/avif": { mediaType: "image/avif", format: "heif" },
};

/** What may be sent. Browsers show these and run none of them. */
export const imageTypes: readonly string[] = [
  ...new Set(Object.values(formats).map(({ mediaType }) => mediaType)),
];

/** Claims that mean a type by another name. */
const aliases: Readonly<Record<string, string>> = {
  "image/jpg": "image/jpeg",
  "image/pjpeg": "image/jpeg",
  "image/x-png": "image/png",
  "image/apng": "image/png",
};

/** Claims that say nothing: what programs send when nobody told them. */
const unclaimed = new Set(["", "application/octet-stream", "application/x-www-form-urlencoded"]);

/** Largest first; the first that fits into 4 KiB is taken. */
const previews = [
  { side: 160, quality: 60 },
  { side: 160, quality: 30 },
  { side: 128, quality: 30 },
  { side: 96, quality: 25 },
  { side: 64, quality: 15 },
] as const;

const broken = (cause: unknown): ConnectError =>
  new ConnectError(
    "the image is broken or cut off: it cannot be read to its end",
    Code.InvalidArgument,
    undefined,
    undefined,
    cause,
  );

function essence(contentType: string | undefined): string {
  const [type = ""] = (contentType ?? "").split(";");
  const name = type.trim().toLowerCase();
  return aliases[name] ?? name;
}

/** The type that the bytes have; an error where that is not one that is taken, or not the one that was claimed. */
async function foundType(bytes: Uint8Array, claimed: string | undefined): Promise<string> {
  const claim = essence(claimed);
  if (claim.startsWith("multipart/"))
    throw refusal(415, "send the bytes of the image as the body itself, not as a form");
  const found = await fileTypeFromBuffer(bytes).catch(() => undefined);
  const known = found === undefined ? undefined : formats[found.mime];
  const taken = imageTypes.join(", ");
  if (known === undefined) {
    const what = found === undefined ? "of no known type" : found.mime;
    throw refusal(415, `the bytes are ${what}; these can be sent: ${taken}`);
  }
  if (!unclaimed.has(claim) && claim !== known.mediaType)
    throw refusal(
      415,
      `the header Content-Type says ${claim}, but the bytes are ${known.mediaType}`,
    );
  return known.mediaType;
}

/** Lets a bounded number through at a time, and a bounded number wait. */
class Slots {
  readonly #waiting: (() => void)[] = [];
  readonly #waitingMax: number;
  #free: number;

  constructor(atOnceMax: number, waitingMax: number) {
    this.#free = atOnceMax;
    this.#waitingMax = waitingMax;
  }

  async run<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    await this.#enter(signal);
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }

  #enter(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.reject(abortError(signal));
    if (this.#free > 0) {
      this.#free -= 1;
      return Promise.resolve();
    }
    if (this.#waiting.length >= this.#waitingMax)
      return Promise.reject(overloaded("too many images are being looked at", 2_000));
    return new Promise((resolve, reject) => {
      const enter = (): void => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        reject(abortError(signal));
      };
      this.#waiting.push(enter);
      signal.addEventListener("abort", leave, { once: true });
    });
  }
}

/** The largest preview that fits; of an image so noisy that none does, none. */
async function preview(image: Sharp, workSeconds: number): Promise<Uint8Array> {
  const [{ side: sideMax }] = previews;
  const { data, info } = await image
    .autoOrient()
    .resize({ width: sideMax, height: sideMax, fit: "inside", withoutEnlargement: true })
    .toColourspace("srgb")
    .raw({ depth: "uchar" })
    .timeout({ seconds: workSeconds })
    .toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  for (const { side, quality } of previews) {
    const encoded = await sharp(data, { raw: { width, height, channels } })
      .resize({ width: side, height: side, fit: "inside", withoutEnlargement: true })
      .webp({ quality, alphaQuality: quality })
      .timeout({ seconds: workSeconds })
      .toBuffer();
    if (encoded.length <= thumbnailBytesMax) return encoded;
  }
  return new Uint8Array();
}

export interface ImageReader {
  /** `claimed` is the Content-Type. Throws a ConnectError for what is no image that can be sent. */
  read(bytes: Uint8Array, claimed: string | undefined, signal: AbortSignal): Promise<Found>;
}

export function createImageReader(limits: ImageLimits = imageLimits): ImageReader {
  const { pixelsMax, workSeconds } = limits;
  const slots = new Slots(limits.atOnceMax, limits.waitingMax);
  // Both are the library's own state: one thread for an image, and nothing kept of what strangers sent.
  sharp.concurrency(1);
  sharp.cache(false);

  const open = (bytes: Uint8Array): Sharp =>
    sharp(bytes, { failOn: "error", sequentialRead: true, limitInputPixels: pixelsMax });

  function check({ width, height, pages = 1, format }: Metadata, mediaType: string): void {
    const pixels = width * height;
    if (pixels > pixelsMax || pixels * pages > pixelsMax * animationFactor)
      throw tooLarge(`${width} x ${height} pixels${pages > 1 ? ` x ${pages} pictures` : ""}`);
    if (format !== Object.values(formats).find((one) => one.mediaType === mediaType)?.format)
      throw refusal(415, `the bytes begin as ${mediaType} but are ${format}`);
  }

  const tooLarge = (size: string): ConnectError =>
    refusal(422, `the image has ${size}; at most ${pixelsMax} pixels are taken`);

  return {
    async read(bytes, claimed, signal) {
      const mediaType = await foundType(bytes, claimed);
      return slots.run(signal, async () => {
        try {
          const metadata = await open(bytes).metadata();
          check(metadata, mediaType);
          const { width, height } = metadata.autoOrient;
          const thumbnail = await preview(open(bytes), workSeconds);
          return { mediaType, width, height, thumbnail };
        } catch (error) {
          if (error instanceof ConnectError) throw error;
          const said = error instanceof Error ? error.message : "";
          if (/pixel limit/i.test(said)) throw tooLarge("too many pixels");
          if (/timeout/i.test(said)) throw refusal(422, "the image takes too long to read");
          throw broken(error);
        }
      });
    },
  };
}
