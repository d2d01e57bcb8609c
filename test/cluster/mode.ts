/** Loaded before the suites: those of the whole service run on a cluster of real processes, each suite on one of its own. */
import assert from "node:assert/strict";
import type { RootHookObject } from "mocha";
import { serviceNames } from "../../mesh/directory.ts";
import type { ServiceName } from "../../mesh/directory.ts";
import { runIn } from "../support/parley.ts";
import type { RunningParley, Settings, Start } from "../support/parley.ts";
import type { Cluster } from "./cluster.ts";
import { leaveSharedGround, newCluster, whyNoServers } from "./ground.ts";

/** As in one process: no waiting at the end. Few shards are claimed sooner than many. */
const everywhere: Settings = {
  PARLEY_DRAIN_MS: "0",
  PARLEY_LOG_LEVEL: "warn",
  PARLEY_SHARDS: "64",
};

/** From nothing, on a small machine. */
const installMs = 25 * 60_000;

const common = ["PARLEY_OTLP_URL", "PARLEY_TRACE_RATIO"];

/** "PARLEY_PRESENCE_GRACE_MS" is presence's; what names no service and is not of all is the gateway's. */
function serviceOf(setting: string): ServiceName | "all" {
  if (common.includes(setting)) return "all";
  const named = serviceNames.find((one) => setting.startsWith(`PARLEY_${one.toUpperCase()}_`));
  return named ?? "gateway";
}

function byService(settings: Settings): Record<string, Settings> {
  const all: Record<string, Settings> = { all: everywhere };
  for (const [name, value] of Object.entries(settings)) {
    const service = serviceOf(name);
    all[service] = { ...all[service], [name]: value };
  }
  return all;
}

/** With programs in the places of ours, where some are given. */
export const onCluster =
  (programs: Readonly<Record<string, string>> = {}): Start =>
  async (settings = {}) => {
    const { cluster, close } = await newCluster({ settings: byService(settings), programs });
    return running(cluster, close);
  };

function running(cluster: Cluster, close: () => Promise<void>): RunningParley {
  const [url = ""] = cluster.urls;
  return {
    url,
    urls: cluster.urls,
    meshUrls: (service) =>
      [...cluster.processes.values()]
        .filter((one) => service.startsWith(`parley.${one.service}.`))
        .map(({ mesh }) => `http://${mesh}`),
    async restart() {
      await cluster.close();
      await Promise.all(cluster.names.map((name) => cluster.start(name)));
      await Promise.all(cluster.names.map((name) => cluster.ready(name)));
      return running(cluster, close);
    },
    close,
  };
}

runIn("a cluster", onCluster());

// What is told to end lets go of its servers and processes, as at any exit.
process.once("SIGTERM", () => process.exit(143));

export const mochaHooks: RootHookObject = {
  async beforeAll(this: Mocha.Context) {
    this.timeout(installMs);
    const why = await whyNoServers();
    if (why !== undefined) {
      console.log(`skipped: ${why}`);
      this.skip();
    }
    const root = this.test?.parent;
    root?.eachTest((test) => {
      assert.doesNotMatch(
        test.fullTitle(),
        /[,(] ?one process\b(?! after)/,
        "a suite does not know the cluster",
      );
    });
  },
  async afterAll() {
    await leaveSharedGround();
  },
};
