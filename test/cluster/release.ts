/** The last release, and its tree: what upgrades are tested from. */
import { execFile } from "node:child_process";
import { mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { root } from "../support/tree.ts";

const run = promisify(execFile);

/** The tag, and the commit that it is of, for clones without tags. */
const release = { tag: "v0.1.0", commit: "6c8f328a3b2a5a5427c3bbccc527b2db974ccfc4" };

/** What is upgraded from, in the order in which it is looked for. OLDER names another commit. */
const names =
  process.env["OLDER"] === undefined ? [release.tag, release.commit] : [process.env["OLDER"]];

export interface Older {
  readonly name: string;
  readonly tree: string;
}

/** Unpacks the tree into the folder, with the packages of this one. Undefined: this clone has neither the tag nor the commit. */
export async function olderIn(folder: string): Promise<Older | undefined> {
  const archive = join(folder, "older.tar");
  for (const name of names) {
    const found = await run("git", ["archive", "--output", archive, name], { cwd: root }).then(
      () => true,
      () => false,
    );
    if (!found) continue;
    const tree = join(folder, "older");
    await mkdir(tree);
    await run("tar", ["xf", archive, "-C", tree]);
    await symlink(join(root, "node_modules"), join(tree, "node_modules"));
    return { name, tree };
  }
  return undefined;
}

/** For whoever has to skip. */
export const noOlder = `skipped: this clone has none of ${names.join(", ")} (git fetch --tags --unshallow)`;
