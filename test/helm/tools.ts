/** The tools that the chart's tests need, built or fetched into a cache by the scripts in servers/; where one cannot be had, why. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { root } from "../support/tree.ts";

const run = promisify(execFile);

export type Tool = "checks" | "crds" | "helm" | "kubernetes" | "promtool" | "schemas";

/** From nothing, on a small machine; what was compiled until then is not compiled again. */
const installMs = 20 * 60_000;

export interface Had {
  /** Where it is; undefined: it cannot be had. */
  readonly folder: string | undefined;
  /** Why not. */
  readonly lack: string;
}

const asked = new Map<Tool, Promise<Had>>();

/** Installs it if it is not there yet, which may take minutes. */
export function tool(name: Tool): Promise<Had> {
  const had = asked.get(name) ?? install(name);
  asked.set(name, had);
  return had;
}

async function install(name: Tool): Promise<Had> {
  try {
    const script = join(root, "test/helm/servers", name, "install.sh");
    const { stdout } = await run(script, [], { timeout: installMs });
    return { folder: stdout.trim(), lack: "" };
  } catch (error) {
    const said = error instanceof Error && "stderr" in error ? String(error.stderr).trim() : "";
    const last = said.split("\n").at(-1) ?? "";
    return {
      folder: undefined,
      lack: `${name} cannot be had here: ${last === "" ? String(error) : last}`,
    };
  }
}

export interface Said {
  readonly code: number;
  readonly output: string;
  readonly errors: string;
}

/** Runs a program to its end, whatever that is. */
export async function runs(
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  cwd = root,
): Promise<Said> {
  try {
    const options = {
      cwd,
      env: { ...process.env, ...env },
      timeout: 10 * 60_000,
      maxBuffer: 64 * 1_024 * 1_024,
    };
    const { stdout, stderr } = await run(file, args, options);
    return { code: 0, output: stdout, errors: stderr };
  } catch (error) {
    if (!(error instanceof Error && "stdout" in error && "stderr" in error)) throw error;
    const code = "code" in error && typeof error.code === "number" ? error.code : 1;
    return { code, output: String(error.stdout), errors: String(error.stderr) };
  }
}
