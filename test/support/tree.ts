/** The repository as files: what the tests of the tree itself look at, and the commands that they run in it. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { delimiter, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../", import.meta.url));

const notOurs = new Set([
  ...[".git", "node_modules", "dist", "data"],
  // What the examples are built into.
  ...[".venv", "__pycache__", "generated", "target"],
]);

/** Every file below `folder`, as paths with slashes from the root of the repository, in order. */
export function filesBelow(folder = ""): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep))
    .filter((parts) => !parts.some((part) => notOurs.has(part)))
    .map((parts) => parts.join("/"))
    .filter((path) => !path.endsWith(".log"))
    .sort();
}

export function textOf(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

export interface Ended {
  code: number | null;
  output: string;
}

/** Runs a command at the root, with the development tools on its path, for a minute at most. */
export function runTool(command: string, args: string[], cwd = root): Ended {
  const path = join(root, "node_modules", ".bin") + delimiter + (process.env["PATH"] ?? "");
  const run = spawnSync(command, args, {
    cwd,
    encoding: "utf8",
    env: { ...process.env, PATH: path },
    timeout: 60_000,
    maxBuffer: 64 * 1024 * 1024,
  });
  if (run.error) throw run.error;
  return { code: run.status, output: run.stdout + run.stderr };
}
