/** A service that is restored from a backup, and the devices that had seen more than it holds. */
import assert from "node:assert/strict";
import { rename } from "node:fs/promises";
import { join } from "node:path";
import { pino } from "pino";
import { MemoryStore, type ParleyClient } from "../../client/index.ts";
import { createNodeClient } from "../../client/node.ts";
import { parleyConfig, startParley } from "../../embedded/index.ts";
import { systemClock } from "../../mesh/clock.ts";
import { systemRandom } from "../../mesh/random.ts";
import { backUp, verifyData } from "../../storage/index.ts";
import { newFolder, testSettings, tokenFor } from "../support/parley.ts";
import { asked } from "../support/within.ts";

const waitMs = 15_000;
const direct = "d:alice:bob";
const log = pino({ level: "silent" });

describe("a service that is restored from a backup", () => {
  it("P3 P6: shows a device that had seen more what it has, and what is new, at once", async () => {
    const folder = await newFolder();
    const data = join(folder.path, "data");
    const serve = (): ReturnType<typeof startParley> =>
      startParley(parleyConfig(testSettings(data)), { log });
    let parley = await serve();
    const ends: (() => Promise<void>)[] = [];

    const texts = (client: ParleyClient): string[] =>
      client.records(direct).map(({ body }) => (body.case === "message" ? body.value.text : ""));
    const has = (client: ParleyClient, ...wanted: string[]): Promise<unknown> =>
      asked(waitMs, wanted.join(), () =>
        Promise.resolve(texts(client).join() === wanted.join() || undefined),
      );
    const device = async (user: string, store = new MemoryStore()): Promise<ParleyClient> => {
      const url = `http://127.0.0.1:${parley.port}`;
      const client = createNodeClient({ url, token: await tokenFor(user), store });
      ends.push(() => client.close());
      client.connect();
      await client.ready();
      return client;
    };

    try {
      const store = new MemoryStore();
      let [alice, bob] = [await device("alice", store), await device("bob")];
      for (const text of ["one", "two"]) await bob.send({ user: "alice" }, text).sent;
      const copy = join(folder.path, "backup");
      await backUp(data, copy);
      const looked = { clock: systemClock, random: systemRandom, log };
      assert.deepEqual((await verifyData(copy, looked)).findings, []);
      for (const text of ["lost", "lost too", "lost as well"])
        await bob.send({ user: "alice" }, text).sent;
      await has(alice, "one", "two", "lost", "lost too", "lost as well");
      await alice.close();
      await parley.close();

      await rename(data, join(folder.path, "broken"));
      await rename(copy, data);
      parley = await serve();
      bob = await device("bob");
      await bob.send({ user: "alice" }, "after").sent;
      alice = await device("alice", store);
      await has(alice, "one", "two", "after");
      await bob.send({ user: "alice" }, "new").sent;
      await has(alice, "one", "two", "after", "new");
      assert.equal((await alice.send({ user: "bob" }, "I see").sent).seq, 5);

      // One that starts again is what it was.
      await parley.close();
      parley = await serve();
      await alice.close();
      alice = await device("alice", store);
      assert.deepEqual(texts(alice), []);
      assert.equal(alice.conversation(direct)?.gotSeq, 5);
    } finally {
      for (const end of ends) await end();
      await parley.close();
      await folder.remove();
    }
  });
});
