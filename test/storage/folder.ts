/** Data directories for tests, and stores in them. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { systemClock } from "../../mesh/clock.ts";
import { systemRandom } from "../../mesh/random.ts";
import { openLmdbStore, openMediaFolder } from "../../storage/index.ts";
import type { LmdbSettings, MediaStore, Store } from "../../storage/index.ts";

export const settings = (more: Partial<LmdbSettings> = {}): LmdbSettings => ({
  clock: systemClock,
  random: systemRandom,
  log: pino({ level: "silent" }),
  ...more,
});

export async function openIn(
  folder: string,
  more: Partial<LmdbSettings> = {},
): Promise<{ store: Store; media: MediaStore }> {
  const store = await openLmdbStore(folder, settings(more));
  return { store, media: await openMediaFolder(join(folder, "media"), systemRandom) };
}

export async function newFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), "parley-data-"));
}

export const removeFolder = (folder: string): Promise<void> => rm(folder, { recursive: true });
