/**
 * Copies a data directory while a process writes to it, or while none does: as it was at one moment, as a crash would have left it.
 * Read from outside, through lmdb's own snapshots; whoever writes need not know.
 */
import {
  constants,
  copyFile,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { open } from "lmdb";
import type { Database, RootDatabase } from "lmdb";
import { syncFolder, syncTree } from "./disk.ts";
import { storeIdKey } from "./keys.ts";

const tablesFile = "tables.mdb";
const journalFiles = ["journal-0", "journal-1"] as const;
const snapshotTries = 20;
const rowsAtOnce = 2_000;

type Table = Database<Buffer, Buffer>;
type Env = RootDatabase<Buffer, Buffer>;

const asBytes = { encoding: "binary", keyEncoding: "binary" } as const;

/** Copies to a new directory, which is there only once it is whole. */
export async function backUp(from: string, to: string): Promise<void> {
  const [source, target] = [resolve(from), resolve(to)];
  await mustBeThere(source);
  await mustBeNew(target);
  const partial = join(dirname(target), `.${basename(target)}.partial`);
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true, mode: 0o700 });
  await copyStore(source, partial);
  // What the tables name is in the files by now, and the epoch in `owner.json` may be newer than the tables, never older.
  await copyOthers(source, partial);
  await syncTree(partial);
  await rename(partial, target);
  await syncFolder(dirname(target));
}

async function mustBeThere(source: string): Promise<void> {
  const found = await stat(join(source, tablesFile)).catch(() => undefined);
  if (found === undefined)
    throw new Error(`${source} is no data directory: it has no ${tablesFile}`);
}

async function mustBeNew(target: string): Promise<void> {
  const found = await stat(target).catch(() => undefined);
  if (found !== undefined)
    throw new Error(`${target} is there already: name a directory that is not`);
}

async function copyStore(source: string, target: string): Promise<void> {
  const path = join(source, tablesFile);
  const env: Env = open<Buffer, Buffer>(path, { ...asBytes, readOnly: true, maxDbs: 64 });
  try {
    // A table that is opened within a snapshot is not in it.
    const names = [...env.getKeys()].map((key) => Buffer.from(key).toString().replace(/\0$/, ""));
    const tables = new Map(names.map((name) => [name, tableOf(env, name)]));
    for (let tries = 1; ; tries += 1) {
      if (await copySnapshot({ env, tables, source, target })) return;
      if (tries === snapshotTries)
        throw new Error(
          `${source} is written to so fast that no moment could be copied: try again`,
        );
    }
  } finally {
    await env.close();
  }
}

interface Copying {
  readonly env: Env;
  readonly tables: ReadonlyMap<string, Table>;
  readonly source: string;
  readonly target: string;
}

/**
 * A snapshot of the tables, then the journal: it has every group that was written before the snapshot, unless what the tables lack was written
 * over meanwhile, which comes only after they have it. False: that may have been so.
 */
async function copySnapshot({ env, tables, source, target }: Copying): Promise<boolean> {
  const meta = tables.get("meta");
  if (meta === undefined) throw new Error(`${source} is no data directory: its tables are none`);
  const { ino } = await stat(join(source, tablesFile));
  const transaction = env.useReadTransaction();
  try {
    const applied = meta.get(appliedKey, { transaction });
    const journal = await Promise.all(journalFiles.map((name) => readFile(join(source, name))));
    env.resetReadTxn();
    const since = meta.get(appliedKey);
    const same = (await stat(join(source, tablesFile))).ino === ino;
    if (!same || Buffer.compare(applied ?? none, since ?? none) !== 0) return false;
    for (const [at, name] of journalFiles.entries())
      await writeFile(join(target, name), journal[at] ?? none, { mode: 0o600 });
    await copyTables(tables, transaction, join(target, tablesFile));
    return true;
  } finally {
    transaction.done();
  }
}

const appliedKey = Buffer.from("applied");
const none = Buffer.alloc(0);

const tableOf = (env: Env, name: string): Table => env.openDB<Buffer, Buffer>({ name, ...asBytes });

async function copyTables(
  tables: ReadonlyMap<string, Table>,
  transaction: ReturnType<Env["useReadTransaction"]>,
  path: string,
): Promise<void> {
  const copy: Env = open<Buffer, Buffer>(path, { ...asBytes, overlappingSync: false, maxDbs: 64 });
  try {
    for (const [name, table] of tables) {
      const into = tableOf(copy, name);
      let rows: { key: Buffer; value: Buffer }[] = [];
      const put = (): Promise<unknown> => {
        const taken = rows;
        rows = [];
        return copy.batch(() => {
          for (const row of taken) void into.put(row.key, row.value);
        });
      };
      for (const row of table.getRange({ transaction })) {
        if (name === "meta" && Buffer.compare(row.key, storeIdKey) === 0) continue;
        rows.push({ key: Buffer.from(row.key), value: Buffer.from(row.value) });
        if (rows.length === rowsAtOnce) await put();
      }
      await put();
    }
    await copy.flushed;
  } finally {
    await copy.close();
  }
  await rm(`${path}-lock`, { force: true });
}

/** Everything else: media, the owner's file, the own secret. Not locks, and not what is half there. */
async function copyOthers(source: string, target: string): Promise<void> {
  for (const entry of await readdir(source, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    const below = path.slice(source.length + 1);
    if (!entry.isFile() || isStores(below) || isHalf(below)) continue;
    await mkdir(dirname(join(target, below)), { recursive: true, mode: 0o700 });
    await copyFile(path, join(target, below), constants.COPYFILE_FICLONE).catch(ignoreGone);
  }
}

const isStores = (path: string): boolean =>
  path.startsWith(tablesFile) || journalFiles.some((name) => name === path);
const isHalf = (path: string): boolean =>
  /(^|\/)(lock-|arriving)/.test(path) || path.endsWith(".next");

/** An upload that was given up, or a medium that was erased, since its folder was read. */
function ignoreGone(error: unknown): void {
  if (error instanceof Error && "code" in error && error.code === "ENOENT") return;
  throw error;
}
