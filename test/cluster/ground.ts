/** What clusters in tests stand on: one etcd and one Cassandra for a whole run, and a prefix and a keyspace there for each cluster. */
import { randomBytes } from "node:crypto";
import { Client } from "cassandra-driver";
import { pino } from "pino";
import { systemClock } from "../../mesh/clock.ts";
import type { Directory } from "../../mesh/directory.ts";
import { openEtcdDirectory } from "../../mesh/etcd/directory.ts";
import { systemRandom } from "../../mesh/random.ts";
import { newFolder } from "../support/parley.ts";
import { asked } from "../support/within.ts";
import { Cluster } from "./cluster.ts";
import type { ClusterOptions } from "./cluster.ts";
import { Members, lackOf } from "./members.ts";
import { Etcd, whyNoEtcd } from "./servers/etcd.ts";

/** The loopback network of this run: two runs at once on one machine need two. */
export const network = process.env["TEST_NETWORK"] ?? "127.50";
const etcdAddress = `${network}.0.1`;
const cassandraAddress = `${network}.0.1`;
/** What processes take where no setting says otherwise. */
const standardShards = 1_024;

/** Why nothing can run here; undefined: all that is needed is there, built now if it was not before, which takes minutes. */
export async function whyNoServers(): Promise<string | undefined> {
  return (await whyNoEtcd()) ?? (await lackOf("cassandra"));
}

export interface Ground {
  readonly etcd: Etcd;
  readonly cassandra: Members;
}

let shared: Promise<Ground> | undefined;

/** Begun by whoever asks first, ended after the last test of the run by `mode.ts`. */
export function sharedGround(): Promise<Ground> {
  shared ??= newGround([etcdAddress], [cassandraAddress]);
  return shared;
}

export async function leaveSharedGround(): Promise<void> {
  const ground = await shared?.catch(() => undefined);
  shared = undefined;
  await Promise.all([leaveSharedNodes(), ground && leaveGround(ground)]);
}

let three: Promise<Members> | undefined;

/** Cassandra of three nodes, all there, for the specs that kill some and bring them back; the last of those lets go of it. */
export function sharedNodes(): Promise<Members> {
  three ??= Members.start(
    "cassandra",
    [21, 22, 23].map((last) => `${network}.0.${last}`),
  );
  return three;
}

export async function leaveSharedNodes(): Promise<void> {
  const nodes = await three?.catch(() => undefined);
  three = undefined;
  await nodes?.close();
}

/** Servers of a test's own. */
export async function newGround(
  etcdAddresses: readonly string[],
  cassandraAddresses: readonly string[],
): Promise<Ground> {
  const [etcd, cassandra] = await Promise.all([
    Etcd.start(etcdAddresses),
    Members.start("cassandra", cassandraAddresses),
  ]);
  return { etcd, cassandra };
}

export async function leaveGround({ etcd, cassandra }: Ground): Promise<void> {
  await Promise.all([etcd.remove(), cassandra.close()]);
}

export interface OwnCluster {
  readonly cluster: Cluster;
  /** Ends the processes, and removes what they stored. */
  close(signal?: NodeJS.Signals): Promise<void>;
}

let clusters = 0;

/** Where the next cluster listens, so that no two meet. */
function nextHost(): string {
  clusters += 1;
  return `${network}.${1 + Math.floor(clusters / 250)}.${1 + (clusters % 250)}`;
}

/** With a prefix, a keyspace, a folder and an address of its own: nothing of another cluster's is there. */
export async function optionsOn(
  ground: Ground,
  more: Partial<ClusterOptions> = {},
): Promise<{ options: ClusterOptions; remove(): Promise<void> }> {
  const name = `test_${randomBytes(4).toString("hex")}`;
  const folder = await newFolder();
  const options = {
    etcd: ground.etcd.endpoints,
    cassandra: ground.cassandra.endpoints,
    keyspace: name,
    etcdPrefix: `/${name}`,
    folder: folder.path,
    host: nextHost(),
    ...more,
  };
  const remove = async (): Promise<void> => {
    await dropKeyspace(options.cassandra, name);
    if (process.env["KEEP"] === undefined) await folder.remove();
    else console.log(`      kept: ${folder.path}`);
  };
  return { options, remove };
}

/** Started and ready, on the servers of the whole run where none are given. */
export async function newCluster(
  more: Partial<ClusterOptions> = {},
  ground?: Ground,
): Promise<OwnCluster> {
  const { options, remove } = await optionsOn(ground ?? (await sharedGround()), more);
  const cluster = await Cluster.start(options);
  return {
    cluster,
    async close(signal = "SIGTERM") {
      await cluster.close(signal);
      await remove();
    },
  };
}

/** What a process says of why it is not ready, once that is said. */
export function notReady(cluster: Cluster, name: string, why: RegExp, ms: number): Promise<string> {
  return asked(ms, `${name} to say ${why.source}`, async () => {
    const answer = await cluster.readiness(name).catch(() => undefined);
    return answer?.status === 503 && why.test(answer.body) ? answer.body : undefined;
  });
}

/** Listens to the cluster's own directory. */
export function directoryOf({ options }: Cluster): Promise<Directory> {
  const { etcd, etcdPrefix: prefix = "/parley" } = options;
  const log = pino({ level: process.env["LOG"] ?? "silent" });
  const surroundings = { clock: systemClock, random: systemRandom, log };
  const config = { endpoints: etcd, prefix, shards: shardsOf(options), leaseSeconds: 5 };
  return openEtcdDirectory(config, surroundings, { signal: AbortSignal.timeout(20_000) });
}

const shardsOf = ({ settings }: ClusterOptions): number =>
  Number(settings?.["all"]?.["PARLEY_SHARDS"] ?? standardShards);

async function dropKeyspace(endpoints: readonly string[], keyspace: string): Promise<void> {
  const client = new Client({ contactPoints: [...endpoints], localDataCenter: "datacenter1" });
  try {
    await client.execute(`DROP KEYSPACE IF EXISTS ${keyspace}`, [], {});
  } finally {
    await client.shutdown();
  }
}
