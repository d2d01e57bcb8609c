/** A gateway that reaches everything but session, or everything but delivery: what its devices send and get meanwhile and afterwards. */
import assert from "node:assert/strict";
import type { Socket } from "node:net";
import type { ServiceName } from "../../mesh/directory.ts";
import { Proxy } from "../support/proxy.ts";
import { Cluster } from "./cluster.ts";
import { optionsOn, sharedGround } from "./ground.ts";
import { ownerOfPort } from "./port-owner.ts";
import { Storm, backMs } from "./storm.ts";

const cutOff = "gateway-0";

/** A cluster whose processes of one service are reached through proxies that know who comes. */
async function clusterBehindProxies(service: ServiceName): Promise<{
  cluster: Cluster;
  proxies: Proxy[];
  close(): Promise<void>;
}> {
  const { options, remove } = await optionsOn(await sharedGround());
  const known: { cluster?: Cluster } = {};
  const labelOf = async ({ remoteAddress = "", remotePort = 0 }: Socket): Promise<string> => {
    const pids = new Map(
      [...(known.cluster?.processes ?? [])].map(([name, { pid }]) => [pid, name]),
    );
    const pid = await ownerOfPort(remoteAddress, remotePort, [...pids.keys()]);
    return pids.get(pid ?? 0) ?? "";
  };
  const at = { host: options.host ?? "127.0.0.1", port: 0 };
  const proxies = await Promise.all([0, 1].map(() => Proxy.open([], at, labelOf)));
  const settings = Object.fromEntries(
    proxies.map(({ address }, number) => [`${service}-${number}`, { PARLEY_ADVERTISE: address }]),
  );
  const cluster = await Cluster.prepare({ ...options, settings });
  known.cluster = cluster;
  const { names } = cluster;
  await Promise.all(names.map((name) => cluster.start(name)));
  for (const [number, proxy] of proxies.entries()) {
    const [host = "", port] = cluster.process(`${service}-${number}`).mesh.split(":");
    proxy.targets = [{ host, port: Number(port) }];
  }
  await Promise.all(names.map((name) => cluster.ready(name)));
  return {
    cluster,
    proxies,
    async close() {
      await cluster.close("SIGKILL");
      await Promise.all(proxies.map((proxy) => proxy.close()));
      await remove();
    },
  };
}

/** How a gateway is cut off, and for how long: in silence for longer than it takes to be found dead. */
const cuts: readonly [says: string, seconds: number, cut: (proxy: Proxy) => void][] = [
  ["in silence", 15, (proxy) => proxy.set({ t: "drop" }, { of: cutOff })],
  [
    "in silence, in one direction",
    15,
    (proxy) => proxy.set({ t: "drop" }, { of: cutOff, direction: "down" }),
  ],
  ["by half-closed connections", 5, (proxy) => proxy.halfClose("down", cutOff)],
  [
    "by resets",
    8,
    (proxy) => {
      proxy.refuse(cutOff);
      proxy.cut(cutOff);
    },
  ],
  ["by a delay of half a second", 5, (proxy) => proxy.set({ t: "delay", ms: 500 }, { of: cutOff })],
];

for (const service of ["session", "delivery"] as const) {
  describe(`a gateway cut off from ${service} only`, () => {
    let world: Awaited<ReturnType<typeof clusterBehindProxies>>;
    before(async () => {
      world = await clusterBehindProxies(service);
    });
    after(() => world?.close());

    for (const [at, [says, seconds, cut]] of cuts.entries()) {
      it(`P1 P2 P3 P4 P5 P6: ${says}: nothing is lost, and all goes on afterwards`, async function () {
        this.timeout(240_000);
        const { cluster, proxies } = world;
        const urls = cluster.urls;
        const storm = await Storm.over(urls, `${service}${at}`, {
          presence: false,
          perSecond: 200,
        });
        try {
          for (const proxy of proxies) {
            assert.ok(proxy.connections > 0, "nothing goes through the proxy");
            cut(proxy);
          }
          const before = storm.load.numbers.acked;
          /** Records that devices at this gateway were handed so far. */
          const got = (url: string): number =>
            storm.load.devices
              .filter((one) => one.url === url)
              .reduce((sum, { received }) => sum + received, 0);
          const gotBefore = urls.map(got);
          await new Promise<void>((go) => setTimeout(go, seconds * 1_000));
          const { acked } = storm.load.numbers;
          storm.note(`${acked - before} acked in the ${seconds} s of the cut`);
          const [here = 0, there = 0] = urls.map((url, at) => got(url) - (gotBefore[at] ?? 0));
          storm.note(`its devices were handed ${here} records meanwhile, others ${there}`);
          assert.ok(acked - before > 50 * seconds, "those who are not cut off go on");
          for (const proxy of proxies) proxy.heal();
          await storm.isBack("the cut", backMs);
          await storm.end();
        } finally {
          for (const proxy of proxies) proxy.heal();
          await storm.load.close();
        }
      });
    }
  });
}
