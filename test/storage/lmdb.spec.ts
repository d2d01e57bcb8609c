/** The store over lmdb: the suite of all stores, with checkpoints at their usual pace, and without a pause or a cache. */
import type { LmdbSettings } from "../../storage/index.ts";
import { storeSuite } from "../conformance/store.ts";
import type { OpenedStore } from "../conformance/store.ts";
import { newFolder, openIn, removeFolder } from "./folder.ts";

async function open(more: Partial<LmdbSettings>): Promise<OpenedStore> {
  const folder = await newFolder();
  return { ...(await openIn(folder, more)), remove: () => removeFolder(folder) };
}

storeSuite("lmdb", () => open({}));
storeSuite("lmdb, with checkpoints all the time", () =>
  open({ config: { checkpointBytes: 0, cachedConversationsMax: 1 } }),
);
