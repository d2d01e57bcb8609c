import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../mesh/clock.ts";
import { FileStore } from "../../client/node.ts";
import { Keeper, MemoryStore, type ClientStore } from "../../client/store.ts";
import { bytes, keepsReplacesAndRemoves } from "./store-contract.ts";

describe("the client's stores", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "parley-store-"));
  });
  afterEach(() => rm(directory, { recursive: true }));

  for (const kind of ["memory", "file"] as const) {
    it(`keeps, replaces and removes: ${kind}`, async () => {
      const path = join(directory, "deeper", "alice.json");
      const memory = new MemoryStore();
      const open = (): ClientStore => (kind === "file" ? new FileStore(path) : memory);
      await keepsReplacesAndRemoves(open);
    });
  }

  it("leaves one whole file, and refuses what is none", async () => {
    const store = new FileStore(join(directory, "alice.json"));
    await store.load();
    await store.save(new Map([["a", bytes("1")]]));
    assert.deepEqual(await readdir(directory), ["alice.json"]);
    await writeFile(join(directory, "bad.json"), "{ half");
    await assert.rejects(new FileStore(join(directory, "bad.json")).load());
  });
});

describe("the keeper", () => {
  function slowStore(): { store: ClientStore; saves: string[][]; release(error?: Error): void } {
    const saves: string[][] = [];
    let settle: { resolve(): void; reject(error: Error): void } | undefined;
    const store: ClientStore = {
      load: () => Promise.resolve(new Map()),
      save(changes) {
        assert.equal(settle, undefined, "one save at a time");
        saves.push([...changes].map(([key, value]) => `${key}=${new TextDecoder().decode(value)}`));
        return new Promise((resolve, reject) => (settle = { resolve, reject }));
      },
    };
    const release = (error?: Error): void => {
      const was = settle;
      settle = undefined;
      if (error) was?.reject(error);
      else was?.resolve();
    };
    return { store, saves, release };
  }
  const turns = async (): Promise<void> => {
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
  };

  it("saves all of a turn in one piece, one save at a time", async () => {
    const { store, saves, release } = slowStore();
    const keeper = new Keeper(store, systemClock, 60_000, (error) => assert.fail(String(error)));
    keeper.put("token", () => bytes("t1"));
    keeper.put("send", () => bytes("s1"), true);
    await turns();
    assert.deepEqual(saves, [["token=t1", "send=s1"]]);
    keeper.put("token", () => bytes("t2"));
    keeper.put("token", () => bytes("t3"), true);
    await turns();
    assert.equal(saves.length, 1);
    release();
    await turns();
    assert.deepEqual(saves[1], ["token=t3"]);
    release();
    await keeper.close();
  });

  it("keeps what a failed save had for the next one", async () => {
    const { store, saves, release } = slowStore();
    const failures: unknown[] = [];
    const keeper = new Keeper(store, systemClock, 60_000, (error) => failures.push(error));
    keeper.put("a", () => bytes("1"), true);
    await turns();
    keeper.put("b", () => bytes("2"));
    release(new Error("disk full"));
    await turns();
    assert.equal(failures.length, 1);
    const closing = keeper.close();
    await turns();
    assert.deepEqual(saves[1]?.toSorted(), ["a=1", "b=2"]);
    release();
    await closing;
  });
});
