/** Where the simulated world's images are: in one place for all storage processes, which takes its time and now and then fails. */
import { createHash } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import type { ImageReader } from "../../gateway/index.ts";
import { sleep } from "../../mesh/clock.ts";
import { unavailable } from "../../mesh/errors.ts";
import type { Random } from "../../mesh/random.ts";
import type { MediaStore } from "../../storage/index.ts";
import type { Host } from "./host.ts";

const chunkBytes = 65_536;
const mostMs = 20;

const noMedia = (): never => {
  throw unavailable("there are no media in this world");
};
export const withoutMedia: MediaStore = {
  put: noMedia,
  get: noMedia,
  has: noMedia,
  remove: noMedia,
};

export class SimMedia {
  readonly #random: Random;
  readonly #kept = new Map<string, Buffer>();
  /** How likely a call fails; whether it did what it was asked for is not known then. */
  failing = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  /** As one process has it. */
  of({ clock }: Host): MediaStore {
    const random = this.#random;
    const kept = this.#kept;
    const way = async <T>(act: () => T): Promise<T> => {
      await sleep(clock, random.unit() * mostMs);
      const dice = random.unit();
      if (dice < this.failing / 2) throw unavailable("the media do not answer");
      const done = act();
      await sleep(clock, random.unit() * mostMs);
      if (dice < this.failing) throw unavailable("the media do not answer");
      return done;
    };
    return {
      async put(chunks) {
        const all: Uint8Array[] = [];
        for await (const chunk of chunks) all.push(chunk);
        const bytes = Buffer.concat(all);
        const mediaId = createHash("sha256").update(bytes).digest("hex");
        await way(() => kept.set(mediaId, bytes));
        return { mediaId, size: bytes.length };
      },
      async *get(mediaId, offset, length) {
        const bytes = await way(() => kept.get(mediaId));
        if (bytes === undefined) throw new ConnectError("there is no such medium", Code.NotFound);
        const wanted = bytes.subarray(offset, offset + length);
        for (let at = 0; at < wanted.length; at += chunkBytes)
          yield wanted.subarray(at, at + chunkBytes);
      },
      has: (mediaId) => way(() => kept.has(mediaId)),
      remove: (mediaId) => way(() => void kept.delete(mediaId)),
    };
  }
}

/** The library that reads images has threads of its own, whose time is the platform's. */
export const simImages: ImageReader = {
  read: (bytes) =>
    Promise.resolve({
      mediaType: "image/png",
      width: bytes.length,
      height: 1,
      thumbnail: bytes.subarray(0, 16),
    }),
};
