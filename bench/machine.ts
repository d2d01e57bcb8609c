/** Where and of what a figure was taken: without it, a figure says nothing. */
import { execFileSync } from "node:child_process";
import { readFileSync, statfsSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly node: string;
  readonly commit: string;
  readonly load: string;
  readonly dataOn: string;
}

function git(...args: string[]): string | undefined {
  try {
    return execFileSync("git", args, {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return undefined; // not a clone, or no git
  }
}

const fileSystems = new Map([
  [0x01021994, "tmpfs: durability costs nothing here, so figures are too good"],
  [0xef53, "ext4"],
  [0x58465342, "xfs"],
  [0x9123683e, "btrfs"],
  [0x794c7630, "overlayfs"],
  [0x6969, "nfs"],
]);

function fileSystem(directory: string): string {
  const type = statfsSync(directory).type;
  return fileSystems.get(type) ?? `file system 0x${type.toString(16)}`;
}

/** The 1-minute load average now: what others want of the machine spoils figures. */
export const loadNow = (): string => (loadavg()[0] ?? 0).toFixed(1);

export function machine(dataDirectory: string | undefined): Machine {
  const dirty = git("status", "--porcelain");
  const suffix = dirty === undefined || dirty === "" ? "" : " with changes";
  return {
    cpu: cpuModel(),
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    commit: `${git("rev-parse", "--short=12", "HEAD") ?? "unknown"}${suffix}`,
    load: loadNow(),
    dataOn: dataDirectory === undefined ? "unknown" : fileSystem(dataDirectory),
  };
}

function cpuModel(): string {
  const model = cpus()[0]?.model.trim();
  if (model !== undefined && model !== "") return model;
  try {
    return /model name\s*:\s*(.*)/.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "unknown";
  } catch {
    return "unknown";
  }
}
