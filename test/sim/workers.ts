/** Several processes that share the seeds: one thread runs one world at a time. */
import { spawn } from "node:child_process";

/** Far enough apart that two never come to the same seed. */
const apart = 1_000_000;

/** Runs this program so many times at once, each with seeds of its own; the greatest of their exit codes. */
export async function inWorkers(workers: number, seed: number, count: number): Promise<number> {
  const endless = !Number.isFinite(count);
  const share = endless ? apart : Math.ceil(count / workers);
  const codes = Array.from({ length: workers }, (_, at) => {
    const own = endless ? [] : ["--count", `${Math.min(share, count - at * share)}`];
    const seeds = ["--workers", "1", "--seed", `${seed + at * share}`, ...own];
    const again = [...process.execArgv, ...process.argv.slice(1), ...seeds];
    const child = spawn(process.execPath, again, { stdio: "inherit" });
    return new Promise<number>((resolve, reject) => {
      child.on("error", reject);
      child.on("exit", (code) => resolve(code ?? 1));
    });
  });
  return Math.max(...(await Promise.all(codes)));
}
