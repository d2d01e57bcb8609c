/** Which process has a TCP connection of this machine: how a proxy tells apart who connects to it. Linux only. */
import { readFile, readdir, readlink } from "node:fs/promises";

/** The pid among `pids` whose socket is bound to `host:port`, an IPv4 address; undefined: none of them. */
export async function ownerOfPort(
  host: string,
  port: number,
  pids: readonly number[],
): Promise<number | undefined> {
  const inode = await inodeOf(host, port);
  if (inode === undefined) return undefined;
  for (const pid of pids) if (await hasSocket(pid, inode)) return pid;
  return undefined;
}

/** Lines are "number local remote state … inode …", addresses in hexadecimal, the host's bytes backwards. */
async function inodeOf(host: string, port: number): Promise<string | undefined> {
  const bytes = host.split(".").map((part) => hex(Number(part), 2));
  const local = `${bytes.toReversed().join("")}:${hex(port, 4)}`;
  const table = await readFile("/proc/net/tcp", "utf8");
  for (const line of table.split("\n")) {
    const fields = line.trim().split(/\s+/);
    if (fields[1] === local) return fields[9];
  }
  return undefined;
}

const hex = (value: number, length: number): string =>
  value.toString(16).toUpperCase().padStart(length, "0");

async function hasSocket(pid: number, inode: string): Promise<boolean> {
  const folder = `/proc/${pid}/fd`;
  const names = await readdir(folder).catch(() => []);
  for (const name of names) {
    const link = await readlink(`${folder}/${name}`).catch(() => "");
    if (link === `socket:[${inode}]`) return true;
  }
  return false;
}
