/** Where a chat keeps its device id, its outbox and what it has synced; one process at a time uses such a file. */
import { mkdir, open, readFile, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

export interface StateFile {
  readonly path: string;
  /** Lets another process have it. */
  release(): Promise<void>;
}

/** Users that chat from more than this many windows at once name a file for each. */
const slotsMax = 9;

export function stateFolder(env: NodeJS.ProcessEnv): string {
  const { XDG_STATE_HOME } = env;
  const base =
    XDG_STATE_HOME === undefined || XDG_STATE_HOME === ""
      ? join(homedir(), ".local", "state")
      : XDG_STATE_HOME;
  return join(base, "parley");
}

/** The file of a user on a server, or the first of the next ones that is free: a second window is a second device. */
export async function freeStateFile(folder: string, user: string, url: string): Promise<StateFile> {
  const host = new URL(url).host.replaceAll(/[^\w.-]/g, "-");
  const name = `${user.replaceAll(/[^\w.@-]/g, "-")}@${host}`;
  for (let slot = 1; slot <= slotsMax; slot += 1) {
    const file = await takeStateFile(
      join(folder, slot === 1 ? `${name}.json` : `${name}.${slot}.json`),
    );
    if (file !== undefined) return file;
  }
  throw new Error(
    `${slotsMax} chats of ${user} are open: close one, or name another file with --state`,
  );
}

/** Undefined: another process has it. */
export async function takeStateFile(path: string): Promise<StateFile | undefined> {
  const lock = `${path}.lock`;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  for (let tries = 0; tries < 3; tries += 1) {
    try {
      const file = await open(lock, "wx", 0o600);
      await file.writeFile(String(process.pid));
      await file.close();
      return { path, release: () => rm(lock, { force: true }) };
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
      if (await isHeld(lock)) return undefined;
      await rm(lock, { force: true });
    }
  }
  return undefined;
}

/** A process that was killed leaves its lock behind. */
async function isHeld(lock: string): Promise<boolean> {
  const pid = Number(await readFile(lock, "utf8").catch(() => ""));
  // Empty: just being written.
  if (!Number.isSafeInteger(pid) || pid < 0) return false;
  if (pid === 0) return true;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
