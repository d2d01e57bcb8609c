/**
 * The `parley` command for tests that start it often: built into one folder once a run. From the sources each start would take twice the time, for
 * they are transpiled anew in each process. The sources' own way is run by whatever runs `cli/parley.js`.
 */
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { buildSync } from "esbuild";
import { root } from "./tree.ts";

let built: string | undefined;

/** The file to run with Node. It is gone when this process is. */
export function commandFile(): string {
  if (built !== undefined) return built;
  const folder = mkdtempSync(join(tmpdir(), "parley-command-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  buildSync({
    entryPoints: [join(root, "cli/main.ts")],
    outdir: join(folder, "cli"),
    outExtension: { ".js": ".mjs" },
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20",
    packages: "external",
    // Where the sources look for what is beside them.
    define: { "import.meta.url": JSON.stringify(pathToFileURL(join(root, "cli/main.ts")).href) },
    logLevel: "warning",
  });
  built = join(folder, "cli", "main.mjs");
  return built;
}
