/** What storage counts moves when the thing happens. */
import assert from "node:assert/strict";
import { types } from "cassandra-driver";
import { ManualClock } from "../../mesh/clock.ts";
import { createLog } from "../../mesh/log.ts";
import { seededRandom } from "../../mesh/random.ts";
import { Connection } from "../../storage/cassandra/connection.ts";
import type { Nodes } from "../../storage/cassandra/nodes.ts";
import { Writer } from "../../storage/cassandra/writer.ts";
import { openMemoryStore } from "../../storage/index.ts";
import type { MediaStore } from "../../storage/index.ts";
import { NotedMetrics } from "../support/noted-metrics.ts";
import { Desk, member, write } from "./writes.ts";

const none = (): never => {
  throw new Error("not in this test");
};
const media: MediaStore = { put: none, get: none, has: none, remove: none };

describe("storage's metrics", () => {
  it("count how long batches and calls take", async () => {
    const clock = new ManualClock();
    const store = openMemoryStore();
    const desk = new Desk({ store, media }, clock);
    const of = (series: string): number | undefined => desk.metrics.of(`parley_storage_${series}`);
    try {
      store.hooks.beforeCommit = () => {
        clock.advance(30);
        return Promise.resolve();
      };
      await desk.kept(write({ from: 1, count: 2, members: [member("alice")] }));
      assert.equal(of("commit_seconds"), 1);
      assert.equal(desk.metrics.sumOf("parley_storage_commit_seconds"), 0.03);
      for (const call of ["read", "list_index"])
        assert.equal(of(`call_seconds{call="${call}"}`), 0);
      await desk.page({});
      assert.equal(of('call_seconds{call="read"}'), 1);
      assert.equal(of('call_seconds{call="list_index"}'), 0);
    } finally {
      await desk.close();
    }
  });

  it("count requests that Cassandra gets again", async () => {
    const [clock, log] = [new ManualClock(), createLog({ level: "silent" })];
    const metrics = new NotedMetrics();
    let failures = 3;
    const nodes: Nodes = {
      execute: () =>
        (failures -= 1) >= 0 ? Promise.reject(new Error("busy")) : Promise.resolve({ rows: [] }),
      batch: none,
      up: 3,
      look: () => undefined,
      shutdown: () => Promise.resolve(),
    };
    const limits = { inFlightMax: 10, replication: 3 };
    const connection = new Connection(nodes, limits, { clock, random: seededRandom(1), log });
    const writer = new Writer(connection, new AbortController().signal, log, metrics);
    let kept = false;
    const query = { query: "INSERT", params: [], partition: "a" };
    const keeping = writer.keep([query], types.consistencies.localQuorum).then(() => (kept = true));
    while (!kept) {
      await new Promise((resolve) => setImmediate(resolve));
      clock.advance(2_000);
    }
    await keeping;
    assert.equal(metrics.of("parley_storage_writes_again_total"), 3);
  });
});
