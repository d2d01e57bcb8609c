/** A backup of Cassandra and media under load, as docs/backup.md tells it, brought to others: no log has a hole, nothing from before is missing. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, readdir, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { MemoryStore, type ParleyClient } from "../../client/index.ts";
import { createNodeClient } from "../../client/node.ts";
import { Load } from "../support/load.ts";
import { newFolder, tokenFor } from "../support/parley.ts";
import { picture } from "../support/pictures.ts";
import { root } from "../support/tree.ts";
import { asked, within } from "../support/within.ts";
import { Cluster } from "./cluster.ts";
import { network, optionsOn } from "./ground.ts";
import { missing, usersOf, wholeLogs } from "./logs.ts";
import { Members } from "./members.ts";
import { Etcd } from "./servers/etcd.ts";
import { S3Server, whyNoS3 } from "./servers/s3.ts";

const run = promisify(execFile);

/** The order matters: a head that is in the backup covers only records that are, too. */
const indexTables = ["user_index", "groups"];
const waitMs = 240_000;
const bucket = "images";
const jmxFrom = 20_000 + Number(network.split(".")[1] ?? 0) * 10;
let jmxPorts = jmxFrom;

/** Nodes with JMX, so that nodetool reaches each. */
class Nodes {
  readonly members: Members;
  readonly #jmxPort: number;

  private constructor(members: Members, jmxPort: number) {
    this.members = members;
    this.#jmxPort = jmxPort;
  }

  static async start(addresses: readonly string[]): Promise<Nodes> {
    const port = jmxPorts;
    jmxPorts += addresses.length;
    const env = (at: number): NodeJS.ProcessEnv => ({
      CASSANDRA_JVM_OPTS: `-Dcassandra.jmx.local.port=${port + at}`,
      // Of three that start at once on two processors.
      CASSANDRA_START_TIMEOUT: "540",
    });
    return new Nodes(await Members.start("cassandra", addresses, env), port);
  }

  async nodetool(at: number, ...args: string[]): Promise<void> {
    const script = join(root, "test/cluster/servers/cassandra/nodetool.sh");
    await run(script, [String(this.#jmxPort + at), ...args], { timeout: waitMs });
  }

  /** One node after the other. */
  async onEach(...args: string[]): Promise<void> {
    for (const at of this.members.addresses.keys()) await this.nodetool(at, ...args);
  }

  /** Copies a node's snapshots of that name, each table's to a folder of its name, and gives these. */
  async keep(at: number, keyspace: string, name: string, to: string): Promise<string[]> {
    const folder = join(this.members.folderOf(at), "data", keyspace);
    const kept: string[] = [];
    for (const table of await readdir(folder)) {
      const path = join(folder, table, "snapshots", name);
      const files = await readdir(path).catch(() => []);
      if (files.length === 0) continue;
      const plain = table.slice(0, table.lastIndexOf("-"));
      await cp(path, join(to, plain), { recursive: true });
      kept.push(plain);
    }
    return kept;
  }
}

/** Says on which nodes; `s3`: media are in an S3-compatible store, else in a folder. */
function backupOf(addresses: readonly string[], laterAddresses: readonly string[], s3: boolean) {
  const nodes: Nodes[] = [];
  const stores: S3Server[] = [];
  const kept: Awaited<ReturnType<typeof newFolder>>[] = [];
  let cluster: Cluster | undefined;
  let etcd: Etcd | undefined;
  let remove: (() => Promise<void>) | undefined;

  async function media(): Promise<Record<string, string>> {
    if (!s3) return {};
    const store = await S3Server.start(`${network}.0.20`);
    stores.push(store);
    await store.makeBucket(bucket);
    const place = { PARLEY_S3_BUCKET: bucket, PARLEY_S3_ENDPOINT: store.endpoint };
    const key = { PARLEY_S3_ACCESS_KEY_ID: "key", PARLEY_S3_SECRET_ACCESS_KEY: "secret" };
    return { PARLEY_MEDIA_FOLDER: "", ...place, ...key };
  }

  async function copyMedia(): Promise<void> {
    const [from, to] = stores;
    if (from !== undefined && to !== undefined) await from.copyTo(to, bucket);
  }

  after(async function () {
    this.timeout(waitMs);
    await cluster?.close("SIGKILL");
    await remove?.();
    await etcd?.remove();
    for (const { members } of nodes) await members.close();
    for (const store of stores) await store.stop();
    for (const folder of kept) await folder.remove();
  });

  return async function (this: Mocha.Context): Promise<void> {
    this.timeout(1_800_000);
    const old = await Nodes.start(addresses);
    nodes.push(old);
    etcd = await Etcd.start(addresses.slice(0, 1));
    const ground = { etcd, cassandra: old.members };
    const replication = addresses.length;
    const own = await optionsOn(ground, { replication, settings: { storage: await media() } });
    // The keyspace goes with its Cassandra.
    remove = () => rm(own.options.folder, { recursive: true, force: true });
    const { keyspace = "" } = own.options;
    cluster = await Cluster.start(own.options);
    const said = { urls: cluster.urls, name: "kept", boundMs: waitMs, perSecond: 100 };
    const load = await Load.begin(said);
    const store = new MemoryStore();
    const folder = await newFolder();
    kept.push(folder);
    try {
      let device = await photographer(cluster, store);
      const image = await picture("png", { width: 64, height: 64 });
      const attachment = await device.uploadMedia("d:kept-model:kept-photographer", image);
      const to = { user: "kept-model" };
      const shown = device.send(to, { text: "look", attachments: [attachment] });
      await within(waitMs, "the picture", shown.sent);
      load.start();
      await load.more(1_000, waitMs);
      const before = load.sendings.filter(({ seq }) => seq !== undefined);
      const tables = indexTables.map((table) => `${keyspace}.${table}`).join(",");
      await old.onEach("snapshot", "-t", "index", "-kt", tables);
      await load.more(200, waitMs);
      await old.onEach("snapshot", "-t", "rest", keyspace);
      await load.more(200, waitMs);
      await load.stop();
      await within(waitMs, "what is lost", device.send(to, "lost").sent);
      await within(waitMs, "what is lost", device.send(to, "lost too").sent);
      await device.close();

      for (const at of addresses.keys()) {
        const node = join(folder.path, String(at));
        await old.keep(at, keyspace, "rest", node);
        // In the place of those that were copied later.
        for (const table of indexTables)
          await rm(join(node, table), { recursive: true, force: true });
        const index = await old.keep(at, keyspace, "index", node);
        assert.deepEqual(index.sort(), [...indexTables].sort());
      }
      await load.close();
      await cluster.close();
      for (const at of addresses.keys()) await old.members.end(at, "KILL");

      const fresh = await Nodes.start(laterAddresses);
      nodes.push(fresh);
      const { endpoints } = fresh.members;
      const settings = { storage: await media() };
      cluster = await Cluster.prepare({ ...own.options, cassandra: endpoints, settings });
      for (const at of addresses.keys())
        for (const table of await readdir(join(folder.path, String(at))))
          await fresh.nodetool(at, "import", keyspace, table, join(folder.path, String(at), table));
      if (replication > 1) await fresh.nodetool(0, "repair", "--full", keyspace);
      await copyMedia();
      const restored = cluster;
      await Promise.all(cluster.names.map((name) => restored.start(name)));
      await Promise.all(cluster.names.map((name) => restored.ready(name)));

      const logs = await wholeLogs(restored.urls[0] ?? "", usersOf(load.sendings));
      assert.deepEqual(missing(before, logs), []);
      device = await photographer(restored, store);
      const { mediaId } = attachment;
      const again = await device.fetchMedia("d:kept-model:kept-photographer", mediaId);
      assert.deepEqual(Buffer.from(await again.arrayBuffer()), Buffer.from(image));
      await within(waitMs, "a message", device.send(to, "new").sent);
      await asked(waitMs, "the device to show what is there", () => {
        const texts = device
          .records("d:kept-model:kept-photographer")
          .map(({ body }) => (body.case === "message" ? body.value.text : ""));
        return Promise.resolve(texts.join() === "look,new" ? true : undefined);
      });
      await device.close();
      const records = [...logs.values()].reduce((sum, log) => sum + log.length, 0);
      console.log(
        `      ${before.length} were acked before the backup, ${records} records are in it`,
      );
    } finally {
      await load.close();
    }
  };
}

async function photographer(
  { urls: [url = ""] }: Pick<Cluster, "urls">,
  store: MemoryStore,
): Promise<ParleyClient> {
  const client = createNodeClient({ url, token: await tokenFor("kept-photographer"), store });
  client.connect();
  await within(waitMs, "a sync", client.ready());
  return client;
}

const addressesFrom = (first: number, count: number): string[] =>
  Array.from({ length: count }, (_, at) => `${network}.0.${first + at}`);

const lackOfS3 = await whyNoS3();
if (lackOfS3 !== undefined)
  console.log(`skipped: a backup of media in S3, a folder is taken instead: ${lackOfS3}`);

describe("a backup of Cassandra and media", () => {
  it(
    "P1 P3 P6: taken under load and restored, has every log whole up to its head, all that was acked before, and the picture",
    backupOf(addressesFrom(11, 1), addressesFrom(12, 1), lackOfS3 === undefined),
  );
});

/** Three nodes and, beside them until they end, a whole cluster under load; then three more. It has not passed on two processors. */
const processorsMin = 4;
const lack =
  availableParallelism() < processorsMin
    ? `it takes ${processorsMin} processors, here are ${availableParallelism()}`
    : lackOfS3;
if (lack !== undefined) console.log(`skipped: a backup of three nodes: ${lack}`);
(lack === undefined ? describe : describe.skip)("a backup of three nodes", () => {
  it("P1 P3 P6: has the same", backupOf(addressesFrom(31, 3), addressesFrom(41, 3), true));
});
