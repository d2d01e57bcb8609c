/** Turns what a file system says into the errors of the mesh, and makes names durable. */
import { statfsSync } from "node:fs";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { ConnectError } from "@connectrpc/connect";
import { overloaded, unavailable } from "../mesh/errors.ts";

const retryAfterMs = 5_000;
/** With less than this left a write that failed is taken to have failed for want of room. */
const leastRoom = 1_048_576;

export function errorCode(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

export const diskFull = (folder: string): ConnectError =>
  overloaded(
    `the disk is full: nothing more can be kept in ${folder}; free some space, then it goes on by itself`,
    retryAfterMs,
  );

/** The error for a write that the disk below `folder` did not take. */
export function writeError(folder: string, error: unknown): ConnectError {
  const code = errorCode(error);
  if (code === "ENOSPC" || code === "EDQUOT" || room(folder) < leastRoom) return diskFull(folder);
  const reason = error instanceof Error ? error.message : String(error);
  return unavailable(`the disk does not take writes in ${folder}: ${reason}`, retryAfterMs, error);
}

function room(folder: string): number {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize;
  } catch {
    return Number.MAX_SAFE_INTEGER;
  }
}

/** Makes durable which names a folder has. Where folders cannot be synced there is nothing to do. */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes durable all that is in a folder, at any depth. */
export async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) await syncFolder(path);
    else if (entry.isFile()) await syncFile(path);
  }
  await syncFolder(folder);
}

export async function syncFile(path: string): Promise<void> {
  const handle = await open(path, "r+");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
