/**
 * One process for a data directory. The lock is a Unix socket that listens there: the kernel closes it when the process dies,
 * however it dies, so that a lock is stale exactly when nobody answers. (Node has no flock; a file with a process id is wrong
 * after kill -9, in containers, and when ids come again.)
 */
import { chmod, link, mkdir, mkdtemp, readdir, rename, rm, symlink } from "node:fs/promises";
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
  await mkdir(path, { recursive: true, mode: 0o700 });
  await chmod(path, 0o700);
  const own = `lock-${newId(random)}`;
  return withShortPath(path, async (short) => {
    const server = await listen(path, join(short, own));
    try {
      await claim(path, short, own);
    } catch (error) {
      server.close();
      await rm(join(path, own), { force: true });
      throw error;
    }
    await rm(join(path, own), { force: true });
    return { path, release: () => release(server, path) };
  });
}

/**
 * Gives the own socket the name `lock`, which only one can: a name is made where there was none. One that nobody answers is
 * first moved away; where it turns out that it was answered after all, since another process was faster, it goes back.
 */
async function claim(path: string, short: string, own: string): Promise<void> {
  const lock = join(path, "lock");
  for (let tries = 0; tries < 3; tries += 1) {
    if (await named(join(path, own), lock)) return void (await removeLeftovers(path, own));
    if (await answers(join(short, "lock"))) throw inUse(path);
    const stale = `${own}.stale`;
    if (!(await moved(lock, join(path, stale)))) continue;
    const wasTaken = await answers(join(short, stale));
    if (wasTaken) await named(join(path, stale), lock);
    await rm(join(path, stale), { force: true });
    if (wasTaken) throw inUse(path);
  }
  throw inUse(path);
}

const inUse = (path: string): Error =>
  new Error(
    `the data directory ${path} is in use by another process: stop that one, or choose another directory`,
  );

async function named(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    throw error;
  }
}

async function moved(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return false;
    throw error;
  }
}

/** Sockets of processes that were killed while they took the lock. */
async function removeLeftovers(path: string, own: string): Promise<void> {
  for (const name of await readdir(path)) {
    if (name.startsWith("lock-") && name !== own) await rm(join(path, name), { force: true });
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

async function release(server: Server, path: string): Promise<void> {
  await rm(join(path, "lock"), { force: true });
  await new Promise<void>((done) => server.close(() => done()));
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
