/** Gateways in two regions: each user is pointed to its own, and messages cross. */
import assert from "node:assert/strict";
import type { Connection } from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { GatewayService } from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { LoadDevice } from "../support/load.ts";
import type { Settings } from "../support/parley.ts";
import { Proxy } from "../support/proxy.ts";
import { asked } from "../support/within.ts";
import { newCluster } from "./ground.ts";
import type { OwnCluster } from "./ground.ts";

const boundMs = 15_000;
const gatewayOf: Readonly<Record<string, string>> = { eu: "gateway-0", us: "gateway-1" };

describe("two regions", () => {
  let own: OwnCluster;
  /** What stands before the gateways of a region, by its name. */
  const fronts = new Map<string, Proxy>();
  const devices: LoadDevice[] = [];

  before(async () => {
    const settings: Record<string, Settings> = {};
    for (const [region, gateway] of Object.entries(gatewayOf)) {
      const front = await Proxy.open([]);
      fronts.set(region, front);
      settings[gateway] = { PARLEY_REGION: region, PARLEY_PUBLIC_URL: front.url };
    }
    own = await newCluster({ settings });
    for (const [region, gateway] of Object.entries(gatewayOf)) {
      const { hostname: host, port } = new URL(own.cluster.process(gateway).url);
      const front = fronts.get(region);
      if (front !== undefined) front.targets = [{ host, port: Number(port) }];
    }
  });
  afterEach(async () => {
    await Promise.all(devices.splice(0).map(({ client }) => client.close()));
  });
  after(async () => {
    await own?.close("SIGKILL");
    await Promise.all([...fronts.values()].map((front) => front.close()));
  });

  const urlOf = (region: string): string => fronts.get(region)?.url ?? "";

  const connectionsAt = async (region: string, userId: string): Promise<Connection[]> => {
    const { mesh } = own.cluster.process(gatewayOf[region] ?? "");
    const transport = createGrpcTransport({ baseUrl: `http://${mesh}` });
    return (await createClient(GatewayService, transport).listConnections({ userId })).connections;
  };

  const open = async (userId: string, region: string, at: string): Promise<LoadDevice> => {
    const device = new LoadDevice(urlOf(at), userId, "phone", region);
    devices.push(device);
    await device.connect();
    return device;
  };

  it("point users to a gateway of their own, wherever they come first; messages, cursors and presence cross", async () => {
    const anna = await open("anna", "eu", "us");
    const ben = await open("ben", "us", "eu");
    const carl = await open("carl", "", "eu");
    for (const [userId, home, away] of [
      ["anna", "eu", "us"],
      ["ben", "us", "eu"],
      ["carl", "eu", "us"],
    ] as const) {
      assert.equal((await connectionsAt(home, userId)).length, 1, `${userId} is at home`);
      assert.deepEqual(await connectionsAt(away, userId), [], `${userId} is not away`);
    }
    const { conversationId, seq } = await anna.client.send({ user: "ben" }, "over the sea").sent;
    const got = async (device: LoadDevice, upTo: number): Promise<true> =>
      asked(boundMs, `record ${upTo}`, () =>
        Promise.resolve(device.gotOf(conversationId) >= upTo ? true : undefined),
      );
    await got(ben, seq);
    await ben.client.send({ user: "anna" }, "and back").sent;
    await got(anna, seq + 1);
    await asked(boundMs, "read by the other", () =>
      Promise.resolve(
        anna.client.receipt(conversationId, seq)?.status === "read" ? true : undefined,
      ),
    );
    await carl.client.send({ user: "anna" }, "me too").sent;
    await anna.watch(["ben", "carl"]);
    assert.ok(anna.allOnline);
    await ben.client.close();
    await anna.told("ben", false, 30_000);
  });

  it("serve everybody in the one that is left, and send them home when it is back", async function () {
    this.timeout(180_000);
    const { cluster } = own;
    await cluster.end("gateway-1", "SIGKILL");
    const dora = new LoadDevice(urlOf("eu"), "dora", "phone", "us");
    devices.push(dora);
    dora.client.connect();
    await asked(30_000, "served away from home", async () =>
      dora.client.connection.t === "live" && (await connectionsAt("eu", "dora")).length === 1
        ? true
        : undefined,
    );
    await dora.client.send({ user: "emil" }, "from abroad").sent;
    await cluster.start("gateway-1");
    await cluster.ready("gateway-1");
    const fred = await open("fred", "us", "eu");
    assert.equal((await connectionsAt("us", "fred")).length, 1);
    await fred.client.send({ user: "dora" }, "welcome home").sent;
    await asked(boundMs, "the message", () =>
      Promise.resolve(dora.gotOf("d:dora:fred") === 1 ? true : undefined),
    );
  });
});
