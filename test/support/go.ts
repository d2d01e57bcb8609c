/** Presence in Go, built once a run; where there is no Go, it is said why not. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "./tree.ts";

/** From nothing, on a small machine: gRPC and etcd's client are compiled, too. */
const buildMs = 900_000;

let built: string | undefined;

export function buildGoPresence(): { program: string; lack?: string } {
  if (built !== undefined) return { program: built };
  try {
    execFileSync("go", ["version"], { stdio: "ignore" });
  } catch {
    return { program: "", lack: "there is no Go here" };
  }
  const folder = mkdtempSync(join(tmpdir(), "parley-go-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  const program = join(folder, "presence");
  const script = join(root, "examples", "go", "presence", "build.sh");
  execFileSync(script, [program], { stdio: ["ignore", "ignore", "inherit"], timeout: buildMs });
  return { program: (built = program) };
}
