/** etcd that is lost and made anew: its revisions, and so the epochs, fall. What docs/backup.md says of it, and what happens to who does not do so. */
import assert from "node:assert/strict";
import { create, toBinary } from "@bufbuild/protobuf";
import { Client } from "cassandra-driver";
import { CellSchema } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { RecordSchema } from "../../proto/gen/parley/v1/record_pb.ts";
import { cellQueries, statementsOf } from "../../storage/cassandra/rows.ts";
import { Load } from "../support/load.ts";
import { asked, within } from "../support/within.ts";
import { Cluster } from "./cluster.ts";
import { directoryOf, network, optionsOn, sharedGround } from "./ground.ts";
import { deviceOf, missing, targetOf, usersOf, wholeLogs } from "./logs.ts";
import { Etcd, callEtcd } from "./servers/etcd.ts";

const address = `${network}.0.21`;
const endpoint = `${address}:2379`;
const waitMs = 60_000;
const shards = 16;

async function raiseRevision(by: number): Promise<void> {
  const write = { key: Buffer.from("raise").toString("base64") };
  for (let done = 0; done < by; done += 50)
    await Promise.all(Array.from({ length: 50 }, () => callEtcd(endpoint, "kv/put", write)));
}

describe("etcd that is made anew", () => {
  let etcd: Etcd | undefined;
  let cluster: Cluster | undefined;
  let remove: (() => Promise<void>) | undefined;

  after(async function () {
    this.timeout(120_000);
    await cluster?.close("SIGKILL");
    await remove?.();
    await etcd?.remove();
  });

  /** What an owner leaves that died before anything of it was acked: it links to nothing. */
  async function leaveBehind(id: string, seq: number, epoch: bigint): Promise<void> {
    const { cassandra = [], keyspace = "" } = cluster?.options ?? {};
    const record = create(RecordSchema, { conversationId: id, seq, senderId: "nobody" });
    const cell = create(CellSchema, {
      ...{ seq, epoch, term: epoch, previousTerm: 1n },
      record: toBinary(RecordSchema, record),
    });
    const write = { $typeName: "parley.storage.v1.ConversationWrite", conversationId: id } as const;
    const rest = { cells: [cell], state: undefined, indexUserIds: [], members: [] };
    const client = new Client({
      contactPoints: [...cassandra],
      localDataCenter: "datacenter1",
      encoding: { useBigIntAsLong: true },
    });
    for (const { query, params } of cellQueries(statementsOf(keyspace), { ...write, ...rest }))
      await client.execute(query, params as unknown[], { prepare: true });
    await client.shutdown();
  }

  async function startAll(all: Cluster): Promise<void> {
    await Promise.all(all.names.map((name) => all.start(name)));
    await Promise.all(all.names.map((name) => all.ready(name)));
  }

  it("P1: loses nothing: what it would is refused, until its revision is raised", async function () {
    this.timeout(600_000);
    etcd = await Etcd.start([address]);
    const { cassandra } = await sharedGround();
    const settings = { all: { PARLEY_SHARDS: String(shards) } };
    const own = await optionsOn({ etcd, cassandra }, { settings });
    remove = own.remove;
    await raiseRevision(2_000);
    cluster = await Cluster.start(own.options);
    const load = await Load.begin({ urls: cluster.urls, name: "anew", boundMs: waitMs });
    try {
      load.start();
      await load.more(500, waitMs);
      await load.stop();
    } finally {
      await load.close();
    }
    const directory = await directoryOf(cluster);
    const epochs = Array.from(
      { length: shards },
      (_, at) => directory.shards.owner(at)?.epoch ?? 0n,
    );
    const highest = epochs.reduce((most, one) => (one > most ? one : most), 0n);
    await directory.close();
    await cluster.close();
    const users = usersOf(load.sendings);
    const [[id, userId] = ["", ""]] = users;
    const head = Math.max(
      ...load.sendings.filter((one) => one.conversationId === id).map(({ seq = 0 }) => seq),
    );
    await leaveBehind(id, head + 1, highest);
    await etcd.remove();

    etcd = await Etcd.start([address]);
    await startAll(cluster);
    const client = await deviceOf(cluster.urls[0] ?? "", userId);
    const waiting = client.send(targetOf(id, userId), "waits");
    const running = cluster;
    await asked(waitMs, "an owner to say so", async () => {
      const logs = await Promise.all(running.namesOf("delivery").map((name) => running.log(name)));
      return logs.some((log) => log.includes("etcd was set back")) ? true : undefined;
    });
    assert.equal(waiting.status, "pending");
    await cluster.close();

    await raiseRevision(Number(highest));
    await startAll(cluster);
    const { seq } = await within(waitMs, "the send that waited", waiting.sent);
    assert.equal(seq, head + 1);
    await client.close();
    const logs = await wholeLogs(cluster.urls[0] ?? "", users);
    assert.deepEqual(missing(load.sendings, logs), []);
    assert.equal(logs.get(id)?.at(-1), "waits");
  });
});
