/** A rolling upgrade under load, from a commit of before, and the way back: at every step some processes are of one version and some of the other. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { serviceNames } from "../../mesh/directory.ts";
import type { ServiceName } from "../../mesh/directory.ts";
import type { Proxy } from "../support/proxy.ts";
import { root } from "../support/tree.ts";
import { Cluster } from "./cluster.ts";
import { optionsOn, sharedGround } from "./ground.ts";
import { Storm, balancerOf } from "./storm.ts";

const run = promisify(execFile);

/** What is upgraded from: the last version that a rolling upgrade has to start from. OLDER names another commit. */
const older = process.env["OLDER"] ?? "4f554e157765acc76688dc3a12e0a2c7dfabac7f";

/** Whoever is asked comes before those who ask. */
const order: readonly ServiceName[] = ["storage", "presence", "session", "delivery", "gateway"];

/** The tree of a commit, with the packages of this one. Undefined: the checkout is too shallow to have it. */
async function treeOf(commit: string, folder: string): Promise<string | undefined> {
  const archive = join(folder, "older.tar");
  const tree = join(folder, "older");
  try {
    await run("git", ["archive", "--output", archive, commit], { cwd: root });
  } catch {
    return undefined;
  }
  await mkdir(tree);
  await run("tar", ["xf", archive, "-C", tree]);
  await symlink(join(root, "node_modules"), join(tree, "node_modules"));
  return tree;
}

describe("processes of two versions", () => {
  let folder = "";
  let cluster: Cluster | undefined;
  let balancer: Proxy | undefined;
  let remove: (() => Promise<void>) | undefined;
  let tree = "";

  before(async function () {
    this.timeout(300_000);
    folder = await mkdtemp(join(tmpdir(), "parley-older-"));
    const found = await treeOf(older, folder);
    if (found === undefined) {
      console.log(`    skipped: the checkout lacks the commit ${older} (git fetch --unshallow)`);
      this.skip();
    }
    tree = found;
  });
  after(async function () {
    this.timeout(120_000);
    await balancer?.close();
    await cluster?.close("SIGKILL");
    await remove?.();
    await rm(folder, { recursive: true, force: true });
  });

  it("P1 P2 P3 P4 P5: an upgrade under load, one process after the other, and two steps back", async function () {
    this.timeout(600_000);
    const own = await optionsOn(await sharedGround());
    remove = own.remove;
    const trees = new Map<string, string>();
    for (const service of serviceNames)
      for (const name of [`${service}-0`, `${service}-1`, "migrate"]) trees.set(name, tree);
    const running = await Cluster.start({ ...own.options, trees });
    cluster = running;
    balancer = await balancerOf(running);
    const storm = await Storm.over([balancer.url], "upgrade", { perSecond: 100 });
    try {
      trees.delete("migrate");
      await running.migrate();
      for (const service of order) {
        for (const name of running.namesOf(service)) {
          trees.delete(name);
          await running.restart(name);
        }
        await storm.isBack(`${service} is new`);
      }
      for (const name of ["session-0", "delivery-0"]) {
        trees.set(name, tree);
        await running.restart(name);
      }
      await storm.isBack("two went back");
      await storm.end();
    } finally {
      await storm.load.close();
    }
  });
});
