/** The directory in memory: the suite of all directories. */
import assert from "node:assert/strict";
import { ManualClock } from "../../mesh/clock.ts";
import { MemoryDirectories } from "../../mesh/memory-directory.ts";
import type { MemoryDirectory } from "../../mesh/memory-directory.ts";
import { directorySuite, ids, instance, never } from "../conformance/directory.ts";
import type { DirectoryWorld } from "../conformance/directory.ts";
import { turn } from "./fake-storage.ts";

const [shards, ttlMs, stepMs, mostMs] = [8, 3_000, 50, 60_000];

function build(): Promise<DirectoryWorld> {
  const clock = new ManualClock();
  const directories = new MemoryDirectories(clock, { shards, ttlMs });
  const views = new Map<unknown, MemoryDirectory>();
  const world: DirectoryWorld = {
    shards,
    ttlMs,
    now: () => clock.monotonic(),
    open() {
      const view = directories.open();
      views.set(view, view);
      return Promise.resolve(view);
    },
    cut: (directory) => views.get(directory)?.cut(),
    heal: (directory) => views.get(directory)?.heal(),
    endLease: ({ id }) => Promise.resolve(directories.endLease(id)),
    async until(what, ask) {
      for (let ms = 0; !ask(); ms += stepMs) {
        assert.ok(ms < mostMs, `${what}: not within ${mostMs} ms`);
        clock.advance(stepMs);
        await turn();
      }
    },
    async close() {
      for (const view of views.values()) await view.close();
    },
  };
  return Promise.resolve(world);
}

directorySuite("memory", build);

describe("a directory in memory", () => {
  it("ends a lease exactly one time to live after the last renewal", async () => {
    const clock = new ManualClock(0);
    const directories = new MemoryDirectories(clock, { shards, ttlMs });
    const [one, other] = [directories.open(), directories.open()];
    const membership = await one.join(instance(), never);
    clock.advance(1_000);
    one.cut();
    clock.advance(2_999);
    assert.equal(membership.held, true);
    assert.equal(ids(other).length, 1);
    clock.advance(1);
    assert.equal(membership.held, false);
    assert.equal(ids(other).length, 0);
  });
});
