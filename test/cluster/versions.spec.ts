/** A rolling upgrade under load, from the last release, and the way back: at every step some processes are of one version and some of the other. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { serviceNames } from "../../mesh/directory.ts";
import type { ServiceName } from "../../mesh/directory.ts";
import type { Proxy } from "../support/proxy.ts";
import { Cluster } from "./cluster.ts";
import { optionsOn, sharedGround } from "./ground.ts";
import { noOlder, olderIn } from "./release.ts";
import { Storm, balancerOf } from "./storm.ts";

/** Whoever is asked comes before those who ask. */
const order: readonly ServiceName[] = ["storage", "presence", "session", "delivery", "gateway"];

describe("processes of two versions", () => {
  let folder = "";
  let cluster: Cluster | undefined;
  let balancer: Proxy | undefined;
  let remove: (() => Promise<void>) | undefined;
  let tree = "";

  before(async function () {
    this.timeout(300_000);
    folder = await mkdtemp(join(tmpdir(), "parley-older-"));
    const found = await olderIn(folder);
    if (found === undefined) {
      console.log(`    ${noOlder}`);
      this.skip();
    }
    console.log(`    from ${found.name}`);
    tree = found.tree;
  });
  after(async function () {
    this.timeout(120_000);
    await balancer?.close();
    await cluster?.close("SIGKILL");
    await remove?.();
    await rm(folder, { recursive: true, force: true });
  });

  it("P1 P2 P3 P4 P5: an upgrade under load, one process after the other, and all the way back", async function () {
    this.timeout(900_000);
    // As long as a process has where nothing is set: on a busy machine a hand-over takes seconds. A gateway takes all of its time.
    const settings = { all: { PARLEY_DRAIN_MS: "10000" }, gateway: { PARLEY_DRAIN_MS: "2000" } };
    const own = await optionsOn(await sharedGround(), { settings });
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
      trees.set("migrate", tree);
      const refusal = await running.migrate().then(
        () => undefined,
        (error: unknown) => String(error),
      );
      // A version that does not know the schema says so, and its storage processes do not start.
      if (refusal !== undefined) assert.match(refusal, /newer than the \d+ that this Parley knows/);
      for (const service of order.toReversed()) {
        if (service === "storage" && refusal !== undefined) {
          storm.note("storage did not go back: the schema is newer than the older version knows");
          continue;
        }
        for (const name of running.namesOf(service)) {
          trees.set(name, tree);
          await running.restart(name);
        }
        await storm.isBack(`${service} went back`);
      }
      await storm.end();
    } finally {
      await storm.load.close();
    }
  });
});
