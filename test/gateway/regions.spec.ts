/** Where the gateway sends clients: users of another region to a gateway there, everybody to another one when it drains. */
import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { gatewayConfig } from "../../gateway/config.ts";
import { createAuthenticator, signDevelopmentToken } from "../../gateway/auth.ts";
import { otherGateway } from "../../gateway/elsewhere.ts";
import type { GatewayConfig } from "../../gateway/index.ts";
import type { Caller } from "../../gateway/ports.ts";
import { ManualClock } from "../../mesh/clock.ts";
import { EnvReader } from "../../mesh/env.ts";
import { LocalMesh } from "../../mesh/local.ts";
import { PeerTable, peerOf } from "../../mesh/peers.ts";
import type { Peer } from "../../mesh/peers.ts";
import { seededRandom } from "../../mesh/random.ts";
import { GatewayService } from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import {
  CloseReason,
  SubscribeRequestSchema,
  SyncRequestSchema,
} from "../../proto/gen/parley/v1/chat_pb.ts";
import type { SubscribeResponse } from "../../proto/gen/parley/v1/chat_pb.ts";
import { World, turns, until } from "./world.ts";

const transport = new LocalMesh().transport(GatewayService);
const gateway = (id: string, region: string, more: Partial<Peer> = {}): Peer =>
  peerOf(id, transport, { region, url: `https://${id}.example.org`, ...more });

const eu = "https://eu.example.org";

describe("another gateway", () => {
  const chosen = (peers: Peer[], region = "eu", self = "self"): Set<string> => {
    const table = new PeerTable(peers);
    const random = seededRandom(3);
    const all = Array.from({ length: 50 }, () => otherGateway(table, random, self, region));
    return new Set(all);
  };

  it("is one of the region that stays and that clients reach, at random, and never the same one", () => {
    const peers = [
      gateway("eu1", "eu"),
      gateway("eu2", "eu"),
      gateway("us1", "us"),
      gateway("self", "eu"),
      gateway("eu3", "eu", { draining: true }),
      gateway("eu4", "eu", { url: "" }),
    ];
    const urls = ["https://eu1.example.org", "https://eu2.example.org"];
    assert.deepEqual([...chosen(peers)].toSorted(), urls);
    assert.deepEqual([...chosen(peers, "asia")], [""]);
    assert.deepEqual([...chosen([])], [""]);
  });
});

describe("regions", () => {
  let world: World;
  const open = async (
    config: Partial<GatewayConfig> = {},
    peers: Peer[] = [gateway("eu", "eu")],
  ): Promise<World> => {
    world = new World({ region: "us", ...config });
    const self = gateway(world.identity.id, config.region ?? "us");
    world.peers(GatewayService).replace([self, ...peers]);
    return world.open();
  };
  afterEach(() => world.close());

  it("a user of another region is sent to a gateway there, and attached nowhere", async () => {
    await open();
    const device = await world.connect();
    device.hello("alice+eu");
    const { reason, url, reconnectAfterMs } = await device.frame("goodbye");
    assert.deepEqual([reason, url], [CloseReason.ELSEWHERE, eu]);
    assert.ok(reconnectAfterMs >= 0 && reconnectAfterMs <= 1_000);
    assert.equal((await device.closed).code, 4_005);
    await turns(5);
    assert.equal(world.session.attached.size, 0);
  });

  for (const [name, token, config, peers] of [
    ["of this region", "alice+us", {}, [gateway("us2", "us")]],
    ["of no region", "alice", {}, undefined],
    ["of a region without a gateway", "alice+asia", {}, undefined],
    ["of a region whose gateway drains", "alice+eu", {}, [gateway("eu", "eu", { draining: true })]],
    [
      "of a region whose gateway clients do not reach",
      "alice+eu",
      {},
      [gateway("eu", "eu", { url: "" })],
    ],
    ["at a gateway that is alone", "alice+eu", { region: "" }, []],
  ] as const) {
    it(`a user ${name} is served here`, async () => {
      await open(config, peers === undefined ? undefined : [...peers]);
      await world.device(token);
      assert.equal(world.session.attached.size, 1);
    });
  }

  const events = async (caller: Caller): Promise<SubscribeResponse["event"][]> => {
    const told: SubscribeResponse["event"][] = [];
    const request = create(SubscribeRequestSchema);
    const signal = new AbortController().signal;
    for await (const { event } of world.gateway.calls.subscribe(caller, request, signal)) {
      told.push(event);
      if (event.case === "sync") break;
    }
    return told;
  };

  it("Subscribe says goodbye in the same way; other calls are served anywhere", async () => {
    await open();
    const caller = { userId: "alice", deviceId: "web", origin: "", region: "eu" };
    const [event, ...more] = await events(caller);
    assert.ok(event?.case === "goodbye");
    assert.deepEqual([event.value.reason, event.value.url], [CloseReason.ELSEWHERE, eu]);
    assert.equal(more.length, 0);
    assert.equal(world.session.attached.size, 0);
    assert.deepEqual(
      (await events({ ...caller, region: "us" })).map((one) => one.case),
      ["sync"],
    );
    const request = create(SyncRequestSchema);
    assert.ok((await world.gateway.calls.sync(caller, request)).complete);
  });

  it("a gateway that drains names another one of its region; one that disconnects names none", async () => {
    await open({}, [gateway("eu", "eu"), gateway("us2", "us")]);
    const one = await world.device("alice", "one");
    const other = await world.device("bob", "two");
    const { service } = world.gateway;
    await service.disconnect(
      {
        $typeName: "parley.gateway.v1.DisconnectRequest",
        target: { case: "userId", value: "alice" },
      },
      undefined as never,
    );
    assert.equal((await one.frame("goodbye")).url, "");
    const drained = world.gateway.drain(0);
    const { reason, url } = await other.frame("goodbye");
    assert.deepEqual([reason, url], [CloseReason.DRAINING, "https://us2.example.org"]);
    await other.closed;
    await until(() => world.session.attached.size === 0);
    await drained;
  });

  it("a gateway that drains alone names none", async () => {
    await open();
    const device = await world.device("alice");
    const drained = world.gateway.drain(0);
    assert.equal((await device.frame("goodbye")).url, "");
    await device.closed;
    await drained;
  });

  for (const [name, peers, leastMs, mostMs] of [
    ["is alone", [gateway("eu", "eu")], 500, 5_000],
    ["has another one that drains", [gateway("us2", "us", { draining: true })], 500, 5_000],
    ["has another one", [gateway("us2", "us")], 1, 20],
    ["shares its address with another one", [gateway("us2", "us", { url: "" })], 1, 20],
  ] as const) {
    it(`a gateway that drains and ${name}: its 20 clients come back within ${mostMs} ms`, async () => {
      await open({}, [...peers]);
      const users = Array.from({ length: 20 }, (_, n) => `u${n}`);
      const devices = await Promise.all(users.map((user) => world.device(user)));
      const drained = world.gateway.drain(0);
      const goodbyes = await Promise.all(devices.map((device) => device.frame("goodbye")));
      const afterMs = goodbyes.map(({ reconnectAfterMs }) => reconnectAfterMs);
      assert.ok(Math.max(...afterMs) <= mostMs, afterMs.join(" "));
      assert.ok(Math.max(...afterMs) - Math.min(...afterMs) >= leastMs, "spread over the time");
      await drained;
    });
  }
});

describe("the region of a token", () => {
  it("is its claim, where that is a text", async () => {
    const secret = "a secret for tests, of 32 bytes at least";
    const clock = new ManualClock();
    const { verify } = await createAuthenticator({ secret }, clock);
    const token = await signDevelopmentToken(secret, "alice", 60, clock, "eu");
    assert.equal((await verify(token)).region, "eu");
    assert.equal((await verify(await signDevelopmentToken(secret, "alice", 60, clock))).region, "");
  });
});

describe("the settings of regions", () => {
  const read = (values: Record<string, string>): GatewayConfig => {
    const reader = new EnvReader(values, "PARLEY_");
    return reader.done(gatewayConfig(reader));
  };

  it("are empty as a rule; an address that is none is refused", () => {
    const { region, publicUrl } = read({});
    assert.deepEqual([region, publicUrl], ["", ""]);
    const set = read({ PARLEY_REGION: "eu", PARLEY_PUBLIC_URL: eu });
    assert.deepEqual([set.region, set.publicUrl], ["eu", eu]);
    for (const wrong of ["eu.example.org", "ftp://eu.example.org", "//"]) {
      assert.throws(() => read({ PARLEY_PUBLIC_URL: wrong }), /PARLEY_PUBLIC_URL must be/);
    }
  });
});
