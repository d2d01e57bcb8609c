/** CPU time and memory of processes with all their children and threads, from /proc; undefined where there is none (not Linux). */
import { existsSync, readdirSync, readFileSync } from "node:fs";

function readOr(path: string, otherwise: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return otherwise; // it ended between the listing and the reading
  }
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

/** A process and its descendants. */
export function processTree(pid: number): number[] {
  const found: number[] = [];
  const waiting = [pid];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    found.push(next);
    for (const tid of threadsOf(next)) {
      const children = readOr(`/proc/${next}/task/${tid}/children`, "");
      for (const child of children.split(" ")) if (child !== "") waiting.push(Number(child));
    }
  }
  return found;
}

export const measurable = (): boolean => existsSync("/proc/self/schedstat");

/** Seconds of CPU since it was made: all threads, those that ended since with what was last seen of them. */
export class CpuMeter {
  readonly #pid: number;
  readonly #last = new Map<string, number>();
  #totalNs = 0;

  constructor(pid: number) {
    this.#pid = pid;
    this.seconds();
    this.#totalNs = 0;
  }

  seconds(): number {
    for (const pid of processTree(this.#pid)) {
      for (const tid of threadsOf(pid)) {
        const ns = Number(readOr(`/proc/${pid}/task/${tid}/schedstat`, "0").split(" ")[0]);
        const key = `${pid}/${tid}`;
        this.#totalNs += Math.max(0, ns - (this.#last.get(key) ?? 0));
        this.#last.set(key, ns);
      }
    }
    return this.#totalNs / 1e9;
  }
}

/** Resident memory of a process and its descendants, in bytes. */
export function residentBytes(pid: number): number | undefined {
  let sum: number | undefined;
  for (const one of processTree(pid)) {
    const kib = /^VmRSS:\s+(\d+) kB/m.exec(readOr(`/proc/${one}/status`, ""))?.[1];
    if (kib !== undefined) sum = (sum ?? 0) + Number(kib) * 1024;
  }
  return sum;
}

/** The part of it that is the process's own and backed by no file: heaps, stacks, Buffers. */
export function anonymousBytes(pid: number): number | undefined {
  let sum: number | undefined;
  for (const one of processTree(pid)) {
    const kib = /^Anonymous:\s+(\d+) kB/m.exec(readOr(`/proc/${one}/smaps_rollup`, ""))?.[1];
    if (kib !== undefined) sum = (sum ?? 0) + Number(kib) * 1024;
  }
  return sum;
}
