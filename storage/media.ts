/** Media as files, named by the hash of their bytes. It must not know which conversation they are in. */
import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { access, mkdir, open, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { ConnectError } from "@connectrpc/connect";
import type { Random } from "../mesh/random.ts";
import { newId } from "../mesh/random.ts";
import { errorCode, syncFolder, writeError } from "./disk.ts";
import { noMedia } from "./errors.ts";
import type { MediaStore } from "./ports.ts";

export const mediaChunkBytes = 65_536;

const mediaIdPattern = /^[0-9a-f]{64}$/;

/** Where a medium is in the folder. */
export const mediaPath = (folder: string, mediaId: string): string =>
  join(folder, mediaId.slice(0, 2), mediaId.slice(2));

/** An upload to which nothing was added for so long has no process any more. Should it have one, it fails and is tried again. */
const leftoverMs = 3_600_000;

/** Opens the folder, or makes it. Several processes may share it. */
export async function openMediaFolder(folder: string, random: Random): Promise<MediaStore> {
  const path = resolve(folder);
  const arriving = join(path, "arriving");
  await mkdir(arriving, { recursive: true, mode: 0o700 });
  await removeLeftovers(arriving, random);
  return new MediaFolder(path, arriving, random);
}

/** How old a file is, a new one tells: the folder's clock need not be that of any process. */
async function removeLeftovers(arriving: string, random: Random): Promise<void> {
  const probe = newId(random);
  await writeFile(join(arriving, probe), "", { flag: "wx", mode: 0o600 });
  const nowMs = await changedMs(join(arriving, probe));
  for (const name of await readdir(arriving)) {
    const path = join(arriving, name);
    const isLeftover = name === probe || nowMs - (await changedMs(path)) > leftoverMs;
    if (isLeftover) await rm(path, { force: true, recursive: true });
  }
}

/** Infinity: it is there no longer. */
async function changedMs(path: string): Promise<number> {
  try {
    return (await stat(path)).mtimeMs;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return Infinity;
    throw error;
  }
}

class MediaFolder implements MediaStore {
  readonly #folder: string;
  readonly #arriving: string;
  readonly #random: Random;

  constructor(folder: string, arriving: string, random: Random) {
    this.#folder = folder;
    this.#arriving = arriving;
    this.#random = random;
  }

  #path(mediaId: string): string {
    return mediaPath(this.#folder, mediaId);
  }

  async put(chunks: AsyncIterable<Uint8Array>): Promise<{ mediaId: string; size: number }> {
    const arriving = join(this.#arriving, newId(this.#random));
    try {
      const { mediaId, size } = await this.#receive(arriving, chunks);
      await this.#settle(arriving, mediaId);
      return { mediaId, size };
    } catch (error) {
      await rm(arriving, { force: true });
      throw this.#error(error);
    }
  }

  #error(error: unknown): ConnectError {
    if (error instanceof ConnectError) return error;
    return errorCode(error) === "" ? ConnectError.from(error) : writeError(this.#folder, error);
  }

  async #receive(
    path: string,
    chunks: AsyncIterable<Uint8Array>,
  ): Promise<{ mediaId: string; size: number }> {
    const handle = await open(path, "wx", 0o600);
    try {
      const hash = createHash("sha256");
      let size = 0;
      for await (const chunk of chunks) {
        hash.update(chunk);
        await writeAll(handle, chunk, size);
        size += chunk.length;
      }
      await handle.sync();
      return { mediaId: hash.digest("hex"), size };
    } finally {
      await handle.close();
    }
  }

  /** Where the same bytes are there already, they are replaced by themselves. */
  async #settle(arriving: string, mediaId: string): Promise<void> {
    const path = this.#path(mediaId);
    const folder = dirname(path);
    const made = await mkdir(folder, { recursive: true, mode: 0o700 });
    await rename(arriving, path);
    await syncFolder(folder);
    if (made !== undefined) await syncFolder(this.#folder);
  }

  async *get(mediaId: string, offset: number, length: number): AsyncGenerator<Uint8Array, void> {
    if (!mediaIdPattern.test(mediaId)) throw noMedia(mediaId);
    const handle = await this.#open(mediaId);
    try {
      const end = offset + length;
      for (let at = offset; at < end;) {
        const bytes = Buffer.allocUnsafe(Math.min(mediaChunkBytes, end - at));
        const { bytesRead } = await handle.read(bytes, 0, bytes.length, at);
        if (bytesRead === 0) return;
        yield bytes.subarray(0, bytesRead);
        at += bytesRead;
      }
    } finally {
      await handle.close();
    }
  }

  async #open(mediaId: string): Promise<FileHandle> {
    try {
      return await open(this.#path(mediaId), "r");
    } catch (error) {
      throw errorCode(error) === "ENOENT" ? noMedia(mediaId) : error;
    }
  }

  async remove(mediaId: string): Promise<void> {
    if (!mediaIdPattern.test(mediaId)) return;
    const path = this.#path(mediaId);
    try {
      await rm(path);
      await syncFolder(dirname(path));
    } catch (error) {
      if (errorCode(error) !== "ENOENT") throw this.#error(error);
    }
  }

  async has(mediaId: string): Promise<boolean> {
    if (!mediaIdPattern.test(mediaId)) return false;
    return access(this.#path(mediaId)).then(
      () => true,
      () => false,
    );
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}
