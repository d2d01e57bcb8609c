/** The token secret that an embedded process makes for itself where none is configured. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { replaceFile } from "./registry.ts";
import type { Random } from "../mesh/random.ts";

/** The data directory's own secret (64 hexadecimal digits), made where there is none. Only the owner of the directory can read it. */
export async function ownSecret(directory: string, random: Random): Promise<string> {
  const path = join(directory, "jwt-secret");
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
  }
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const secret = Buffer.from(random.bytes(32)).toString("hex");
  await replaceFile(path, secret + "\n");
  return secret;
}
