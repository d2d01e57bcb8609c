/** The shard registry of one process: a file that names the owner and its epoch, replaced durably before the new owner serves. */
import { open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { type ShardOwner, type ShardRegistry, ShardTable } from "../mesh/shards.ts";

/** All conversations are one shard: there is one owner. The data directory's lock keeps other processes out. */
export async function openFileShards(directory: string): Promise<ShardRegistry> {
  const path = join(directory, "owner.json");
  const shards = new FileShards(path);
  const owner = await read(path);
  if (owner !== undefined) shards.learn(0, owner);
  return shards;
}

class FileShards extends ShardTable implements ShardRegistry {
  readonly #path: string;

  constructor(path: string) {
    super(1);
    this.#path = path;
  }

  async replace(
    shard: number,
    expected: ShardOwner | undefined,
    incarnation: string,
  ): Promise<ShardOwner | undefined> {
    const present = this.owner(shard);
    if (present?.epoch !== expected?.epoch) return undefined;
    const next = { incarnation, epoch: (present?.epoch ?? 0n) + 1n };
    await replaceFile(
      this.#path,
      JSON.stringify({ incarnation, epoch: String(next.epoch) }) + "\n",
    );
    this.learn(shard, next);
    return next;
  }

  refresh(shard: number): Promise<ShardOwner | undefined> {
    return Promise.resolve(this.owner(shard));
  }
}

async function read(path: string): Promise<ShardOwner | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
  const parsed: unknown = JSON.parse(text);
  if (
    typeof parsed === "object" &&
    parsed !== null &&
    "incarnation" in parsed &&
    "epoch" in parsed
  ) {
    const { incarnation, epoch } = parsed;
    if (typeof incarnation === "string" && typeof epoch === "string")
      return { incarnation, epoch: BigInt(epoch) };
  }
  throw new Error(`${path} does not name an owner: restore it, its epoch must not fall`);
}

/** Writes a file whole or not at all, also where the power fails. */
export async function replaceFile(path: string, text: string): Promise<void> {
  const next = `${path}.next`;
  const file = await open(next, "w", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(next, path);
  const directory = await open(join(path, ".."), "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
