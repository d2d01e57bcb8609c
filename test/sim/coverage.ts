/** Which branches of the services a run took, by Node's own profiler. */
import { Session } from "node:inspector/promises";
import type { Profiler } from "node:inspector";
import { fileURLToPath } from "node:url";
import { relative } from "node:path";

const root = fileURLToPath(new URL("../..", import.meta.url));
const services = /^(mesh|gateway|session|delivery|presence|storage|client)\//;

export interface Coverage {
  stop(): Promise<readonly Profiler.ScriptCoverage[]>;
}

export async function startCoverage(): Promise<Coverage> {
  const session = new Session();
  session.connect();
  await session.post("Profiler.enable");
  await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  return {
    async stop() {
      const { result } = await session.post("Profiler.takePreciseCoverage");
      session.disconnect();
      return result;
    },
  };
}

/** A line for each folder, then the files with most that was not taken. */
export function coverageOf(scripts: readonly Profiler.ScriptCoverage[]): string {
  const files = scripts.flatMap(({ url, functions }) => {
    if (!url.startsWith("file:")) return [];
    const path = relative(root, fileURLToPath(url.replace(/\?.*$/, "")));
    if (!services.test(path)) return [];
    const blocks = functions.flatMap(({ ranges }) => ranges);
    const taken = blocks.filter(({ count }) => count > 0).length;
    return [{ path, all: blocks.length, taken }];
  });
  const folders = new Map<string, { all: number; taken: number }>();
  for (const { path, all, taken } of files) {
    const folder = path.split("/")[0] ?? "";
    const sum = folders.get(folder) ?? { all: 0, taken: 0 };
    folders.set(folder, { all: sum.all + all, taken: sum.taken + taken });
  }
  const line = (name: string, { all, taken }: { all: number; taken: number }): string =>
    `  ${name.padEnd(32)} ${taken} of ${all} (${Math.round((100 * taken) / Math.max(1, all))} %)`;
  const most = files
    .toSorted((one, other) => other.all - other.taken - (one.all - one.taken))
    .slice(0, 20);
  return [
    "functions and branches taken:",
    ...[...folders].toSorted().map(([folder, sum]) => line(folder, sum)),
    "most that was not taken:",
    ...most.map((file) => line(file.path, file)),
  ].join("\n");
}
