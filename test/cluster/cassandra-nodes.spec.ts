/** The store over three nodes of Cassandra, with three copies of each row: one is killed while writers are at work. */
import assert from "node:assert/strict";
import { batch, member, write } from "../storage/writes.ts";
import { asked, within } from "../support/within.ts";
import { leaveSharedNodes, sharedNodes } from "./ground.ts";
import { Keyspace } from "./keyspace.ts";
import type { Members } from "./members.ts";

const nothing = (): void => undefined;

describe("a store over three nodes of Cassandra", function () {
  this.timeout(300_000);
  let nodes: Members;
  let keyspace: Keyspace;

  before(async () => {
    nodes = await sharedNodes();
    keyspace = Keyspace.on(nodes.endpoints, 3);
  });

  after(async () => {
    await keyspace?.close();
    await leaveSharedNodes();
  });

  it("has one schema where three make it at once", async () => {
    await Promise.all([keyspace.migrate(), keyspace.migrate(), keyspace.migrate()]);
    const store = await keyspace.open();
    assert.deepEqual(store.problems(), []);
  });

  it("keeps all that was answered when a node is killed, and stops no writer (P1 P3)", async () => {
    const store = await keyspace.open();
    const ids = Array.from({ length: 8 }, (_, at) => `g:${at}`);
    const heads = new Map<string, number>();
    let killed = false;
    let after = 0;
    let stop = false;
    let slowestMs = 0;
    let enough = nothing;
    const gone = new Promise<void>((resolve) => (enough = resolve));
    const work = async (id: string): Promise<void> => {
      for (let from = 1; !stop; from += 1) {
        const beganMs = performance.now();
        const members = from === 1 ? [member("alice")] : [];
        await store.append(batch("one", write({ id, from, members })), nothing);
        heads.set(id, from);
        if (!killed) continue;
        slowestMs = Math.max(slowestMs, performance.now() - beganMs);
        after += 1;
        if (after === 2_000) enough();
      }
    };
    const writers = ids.map(work);
    // Only every ten seconds (its read timeout) Cassandra looks how long a read of a table may take before it asks another node.
    const beganMs = performance.now();
    await asked(60_000, "tables that are known", () =>
      Promise.resolve(performance.now() - beganMs > 12_000 ? true : undefined),
    );
    await nodes.end(2, "KILL");
    killed = true;
    await within(
      120_000,
      "2,000 batches after the kill",
      Promise.race([gone, Promise.all(writers)]),
    );
    stop = true;
    await Promise.all(writers);
    assert(slowestMs < 5_000, `the slowest batch took ${slowestMs} ms`);
    assert.deepEqual(store.problems(), []);
    for (const id of ids) {
      const head = heads.get(id) ?? 0;
      const cells = await store.cells(id, 1, head);
      assert.equal(cells.length, head, id);
      assert.equal((await store.conversation(id))?.headSeq, head, id);
    }
  });

  it("tells that too few nodes are there, holds up batches meanwhile, and goes on", async () => {
    const store = await keyspace.open();
    await nodes.end(1, "KILL");
    const held = store.append(
      batch("two", write({ id: "g:x", from: 1, members: [member("alice")] })),
      nothing,
    );
    await asked(20_000, "a problem", () =>
      Promise.resolve(store.problems().length > 0 ? true : undefined),
    );
    await nodes.start(1);
    await within(120_000, "the batch", held);
    await asked(20_000, "no problem", () =>
      Promise.resolve(store.problems().length === 0 ? true : undefined),
    );
  });
});
