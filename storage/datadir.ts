/**
 * One process for a data directory. The lock is a Unix socket that listens there: the kernel closes it when the process dies,
 * however it dies, so that a lock is stale exactly when nobody answers. (Node has no flock; a file with a process id is wrong
 * after kill -9, in containers, and when ids come again.)
 */
import { chmod, link, mkdir, mkdtemp, readdir, rm, symlink } from "node:fs/promises";
import { connect, createServer } from "node:net";
import type { Server } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Random } from "../mesh/random.ts";
import { newId } from "../mesh/random.ts";
import { errorCode } from "./disk.ts";

/** What fits into a socket's address everywhere, with the byte that ends it. */
const socketPathMax = 100;

export interface DataDir {
  readonly path: string;
  release(): Promise<void>;
}

/** Makes the directory where it is not there, for its owner alone, and locks it; or says who must go first. */
export async function lockDataDir(folder: string, random: Random): Promise<DataDir> {
  const path = resolve(folder);
  await makePrivate(path);
  const own = `arriving-${newId(random)}`;
  return withShortPath(path, async (short) => {
    const server = await listen(path, join(short, own));
    try {
      await claim(path, short, own);
    } catch (error) {
      server.close();
      throw error;
    } finally {
      await rm(join(path, own), { force: true });
    }
    return { path, release: () => new Promise<void>((done) => server.close(() => done())) };
  });
}

async function makePrivate(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    await chmod(path, 0o700);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const message = `the data directory ${path} cannot be made private to this user (${reason}): choose another one`;
    throw new Error(message, { cause });
  }
}

const lockPattern = /^lock-(\d+)$/;

/**
 * Gives the own socket the next number. A name is made only where there was none, so that one process gets it; who listened
 * under a lower number and answers no more never will again, since numbers are not used twice: the last lock stays when it is
 * released.
 */
async function claim(path: string, short: string, own: string): Promise<void> {
  for (let tries = 0; tries < 10; tries += 1) {
    const names = await readdir(path);
    const taken = names.map((name) => Number(lockPattern.exec(name)?.[1] ?? 0));
    const last = Math.max(0, ...taken);
    if (last > 0 && (await answers(join(short, `lock-${last}`)))) throw inUse(path);
    if (!(await named(join(path, own), join(path, `lock-${last + 1}`)))) continue;
    for (const name of names) {
      const leftover = lockPattern.test(name) || name.startsWith("arriving-");
      if (leftover && name !== own) await rm(join(path, name), { force: true });
    }
    return;
  }
  throw inUse(path);
}

const inUse = (path: string): Error =>
  new Error(
    `the data directory ${path} is in use by another process: stop that one, or choose another directory`,
  );

/** False: the new name is there already, or who was first removed the old one. */
async function named(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (["EEXIST", "ENOENT"].includes(errorCode(error))) return false;
    throw error;
  }
}

function listen(folder: string, path: string): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  server.unref();
  return new Promise((resolvePromise, reject) => {
    server.once("error", (cause) => {
      const message = `the data directory ${folder} cannot be locked (${cause.message}): it must be on a local disk that can hold sockets`;
      reject(new Error(message, { cause }));
    });
    server.listen(path, () => resolvePromise(server));
  });
}

/** Whether a process listens there. Only a refusal, or nothing there, is a no. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolvePromise) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolvePromise(true);
    });
    socket.once("error", (error) => {
      resolvePromise(!["ECONNREFUSED", "ENOENT"].includes(errorCode(error)));
    });
  });
}

/** A socket's address has little room: a long path gets a short name for as long as `run` takes. */
async function withShortPath<T>(path: string, run: (short: string) => Promise<T>): Promise<T> {
  if (path.length + 40 <= socketPathMax) return run(path);
  const folder = await mkdtemp(join(tmpdir(), "parley-"));
  try {
    const short = join(folder, "d");
    await symlink(path, short);
    return await run(short);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
