/** A backup of Cassandra under load, as docs/backup.md tells it, brought to another Cassandra: no log has a hole, nothing from before is missing. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { Load } from "../support/load.ts";
import { newFolder } from "../support/parley.ts";
import { root } from "../support/tree.ts";
import { Cluster } from "./cluster.ts";
import { network, optionsOn, sharedGround } from "./ground.ts";
import { missing, usersOf, wholeLogs } from "./logs.ts";
import { Members } from "./members.ts";

const run = promisify(execFile);

/** The order matters: a head that is in the backup covers only records that are, too. */
const indexTables = ["user_index", "groups"];
const waitMs = 120_000;

/** A node with JMX, so that nodetool reaches it. */
class Node {
  readonly members: Members;
  readonly #jmxPort: number;

  private constructor(members: Members, jmxPort: number) {
    this.members = members;
    this.#jmxPort = jmxPort;
  }

  static async start(address: string, jmxPort: number): Promise<Node> {
    const env = { CASSANDRA_JVM_OPTS: `-Dcassandra.jmx.local.port=${jmxPort}` };
    return new Node(await Members.start("cassandra", [address], env), jmxPort);
  }

  async nodetool(...args: string[]): Promise<string> {
    const script = join(root, "test/cluster/servers/cassandra/nodetool.sh");
    const ran = run(script, [String(this.#jmxPort), ...args], { timeout: waitMs });
    return (await ran).stdout;
  }

  /** Where the snapshot of each table is. */
  async snapshots(keyspace: string, name: string): Promise<Map<string, string>> {
    const folder = join(this.members.folderOf(0), "data", keyspace);
    const found = new Map<string, string>();
    for (const table of await readdir(folder)) {
      const path = join(folder, table, "snapshots", name);
      const there = await readdir(path).then(
        () => true,
        () => false,
      );
      if (there) found.set(table.slice(0, table.lastIndexOf("-")), path);
    }
    return found;
  }
}

describe("a backup of Cassandra", () => {
  const nodes: Node[] = [];
  let cluster: Cluster | undefined;
  let remove: (() => Promise<void>) | undefined;
  let kept: Awaited<ReturnType<typeof newFolder>> | undefined;

  after(async function () {
    this.timeout(120_000);
    await cluster?.close("SIGKILL");
    await remove?.();
    for (const { members } of nodes) await members.close();
    await kept?.remove();
  });

  it("P1 P3: taken under load and restored, has every log whole up to its head, and all that was acked before", async function () {
    this.timeout(900_000);
    const jmxPort = 20_000 + Number(network.split(".")[1] ?? 0) * 10;
    const old = await Node.start(`${network}.0.11`, jmxPort);
    nodes.push(old);
    const ground = { ...(await sharedGround()), cassandra: old.members };
    const own = await optionsOn(ground);
    // The keyspace goes with its Cassandra.
    remove = () => rm(own.options.folder, { recursive: true, force: true });
    const { keyspace = "" } = own.options;
    cluster = await Cluster.start(own.options);
    const load = await Load.begin({
      urls: cluster.urls,
      name: "kept",
      boundMs: waitMs,
      perSecond: 200,
    });
    kept = await newFolder();
    try {
      load.start();
      await load.more(1_000, waitMs);
      const before = load.sendings.filter(({ seq }) => seq !== undefined);
      const tables = indexTables.map((table) => `${keyspace}.${table}`).join(",");
      await old.nodetool("snapshot", "-t", "index", "-kt", tables);
      await load.more(200, waitMs);
      await old.nodetool("snapshot", "-t", "rest", keyspace);
      await load.more(200, waitMs);
      await load.stop();

      const index = await old.snapshots(keyspace, "index");
      assert.deepEqual([...index.keys()].sort(), [...indexTables].sort());
      const rest = await old.snapshots(keyspace, "rest");
      for (const [table, path] of new Map([...rest, ...index]))
        await cp(path, join(kept.path, keyspace, table), { recursive: true });
      await load.close();
      await cluster.close();
      await old.members.end(0, "KILL");

      const fresh = await Node.start(`${network}.0.12`, jmxPort + 1);
      nodes.push(fresh);
      cluster = await Cluster.prepare({ ...own.options, cassandra: fresh.members.endpoints });
      for (const table of await readdir(join(kept.path, keyspace)))
        await fresh.nodetool("import", keyspace, table, join(kept.path, keyspace, table));
      const { names } = cluster;
      const restored = cluster;
      await Promise.all(names.map((name) => restored.start(name)));
      await Promise.all(names.map((name) => restored.ready(name)));

      const logs = await wholeLogs(restored.urls[0] ?? "", usersOf(load.sendings));
      assert.deepEqual(missing(before, logs), []);
      const records = [...logs.values()].reduce((sum, log) => sum + log.length, 0);
      console.log(
        `      ${before.length} were acked before the backup, ${records} records are in it`,
      );
    } finally {
      await load.close();
    }
  });
});
