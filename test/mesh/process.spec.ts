/** One process of a cluster, whatever its service: when it is ready, who knows of it, how it ends. Then all five, over a directory and a store in memory. */
import assert from "node:assert/strict";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { deliveryCommand } from "../../delivery/main.ts";
import { gatewayCommand } from "../../gateway/main.ts";
import { systemClock } from "../../mesh/clock.ts";
import type { Instance } from "../../mesh/directory.ts";
import { createGrpcTransport } from "../../mesh/grpc/transport.ts";
import { createLog } from "../../mesh/log.ts";
import { MemoryDirectories } from "../../mesh/memory-directory.ts";
import { Pins } from "../../mesh/pins.ts";
import type { MemoryDirectory } from "../../mesh/memory-directory.ts";
import { command } from "../../mesh/process.ts";
import type {
  Command,
  Made,
  OpenDirectory,
  RunningProcess,
  ServiceProcess,
} from "../../mesh/process.ts";
import { type OwnConfig, withoutEdge } from "../../mesh/process-config.ts";
import { systemRandom } from "../../mesh/random.ts";
import { presenceCommand } from "../../presence/main.ts";
import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from "../../proto/gen/grpc/health/v1/health_pb.ts";
import { SessionService } from "../../proto/gen/parley/session/v1/session_pb.ts";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { sessionCommand } from "../../session/main.ts";
import { createStorage, openMediaFolder, openMemoryStore } from "../../storage/index.ts";
import { SocketDevice } from "../support/device.ts";
import { newFolder, secret, tokenFor } from "../support/parley.ts";
import { directId, textOf, textTo } from "../support/town.ts";
import { asked, within } from "../support/within.ts";
import { Event } from "./fake-storage.ts";

const boundMs = 10_000;
const ttlMs = 300;
const log = createLog({ level: "silent" });

const freePorts = { PARLEY_MESH_PORT: "0", PARLEY_HEALTH_PORT: "0", PARLEY_DRAIN_MS: "0" };

/** A service without a purpose. */
interface Fake {
  problems: string[];
  drain: (boundMs: number) => Promise<void>;
  make: () => Promise<void>;
  readonly events: string[];
  readonly pins: Pins;
  readonly command: Command;
}

function fake(name = ""): Fake {
  const events: string[] = [];
  const unserved = (): never => {
    throw new ConnectError("nothing is served here", Code.Unimplemented);
  };
  const pins = new Pins();
  const it: Fake = {
    events,
    pins,
    problems: [],
    drain: () => Promise.resolve(),
    make: () => Promise.resolve(),
    command: command<typeof SessionService, OwnConfig>({
      name: "session",
      service: SessionService,
      readConfig: (read) => ({ ...withoutEdge(read), name }),
      async make(): Promise<Made<typeof SessionService>> {
        await it.make();
        const service = {
          attach: unserved,
          publish: unserved,
          watchOnline: unserved,
          listSessions: unserved,
        };
        return {
          running: {
            service,
            start: () => Promise.resolve(void events.push("start")),
            problems: () => it.problems,
            pins,
            async drain(bound) {
              events.push("drain");
              await it.drain(bound);
            },
            close: () => Promise.resolve(void events.push("close")),
          },
        };
      },
    }),
  };
  return it;
}

class World {
  readonly directories = new MemoryDirectories(systemClock, { shards: 8, ttlMs });
  readonly watching = this.directories.open();
  readonly views: MemoryDirectory[] = [];
  readonly #running: RunningProcess[] = [];

  readonly open: OpenDirectory = () => {
    const view = this.directories.open();
    this.views.push(view);
    return Promise.resolve(view);
  };

  async start(
    of: Command,
    settings: Record<string, string> = {},
    openDirectory = this.open,
  ): Promise<RunningProcess> {
    const configured = of.configured({ ...freePorts, ...settings });
    const process = await configured.start({ log, openDirectory });
    this.#running.push(process);
    return process;
  }

  get sessions(): readonly Instance[] {
    return this.watching.instances("session").present;
  }

  async close(): Promise<void> {
    await Promise.all(this.#running.map((process) => process.stop()));
    await this.watching.close();
  }
}

const readyz = async ({ front }: RunningProcess): Promise<string> => {
  const answer = await fetch(`http://${front}/readyz`);
  return `${answer.status} ${await answer.text()}`;
};

/** Resolves once what it is not ready for is exactly this. */
const until = (process: RunningProcess, ...reasons: (string | RegExp)[]): Promise<true> =>
  asked(boundMs, `${process.name} with ${reasons.join(", ") || "no problem"}`, () => {
    const problems = process.problems();
    const same =
      problems.length === reasons.length &&
      problems.every((one, at) => {
        const reason = reasons[at];
        return reason instanceof RegExp ? reason.test(one) : one === reason;
      });
    return Promise.resolve(same ? true : undefined);
  });

const untilTrue = (what: string, look: () => boolean): Promise<true> =>
  asked(boundMs, what, () => Promise.resolve(look() ? true : undefined));

describe("a process of a cluster", () => {
  let world: World;
  beforeEach(() => {
    world = new World();
  });
  afterEach(() => world.close());

  it("listens at once, and says over HTTP and gRPC what it waits for until it is ready", async () => {
    const heard = new Event();
    const made = new Event();
    const it = fake();
    it.make = () => made.happened;
    it.problems = ["it has a cold"];
    const process = await world.start(it.command, {}, async (...given) => {
      await heard.happened;
      return world.open(...given);
    });
    const transport = createGrpcTransport({ address: process.mesh });
    const health = createClient(Health, transport);
    const serving = async (): Promise<Serving> => (await health.check({})).status;

    assert.match(await readyz(process), /^503 .*it waits for etcd at 127\.0\.0\.1:2379/);
    assert.equal((await fetch(`http://${process.front}/healthz`)).status, 200);
    assert.equal(await serving(), Serving.NOT_SERVING);
    heard.happen();
    await until(process, "its service is starting");
    assert.deepEqual(world.sessions, []);
    made.happen();
    await until(process, "it has a cold");
    assert.equal(await serving(), Serving.NOT_SERVING);
    it.problems = [];
    assert.equal(await readyz(process), "200 ready\n");
    assert.equal(await serving(), Serving.SERVING);
    const [announced] = world.sessions;
    assert.deepEqual(announced, {
      service: "session",
      id: process.id,
      name: "",
      address: process.mesh,
      region: "",
      url: "",
      draining: false,
    });
    transport.close();
  });

  it("announces where others reach it, and its region, as configured", async () => {
    const settings = { PARLEY_ADVERTISE: "session-7.example:9090", PARLEY_REGION: "eu" };
    const process = await world.start(fake().command, settings);
    await until(process);
    const [{ address, region } = assert.fail("it is not announced")] = world.sessions;
    assert.deepEqual([address, region], ["session-7.example:9090", "eu"]);
  });

  it("P10: stays ready while the directory cannot be reached, and keeps its life", async () => {
    const process = await world.start(fake().command);
    await until(process);
    const { id } = process;
    world.views[0]?.cut();
    await untilTrue("the end of its lease", () => world.sessions.length === 0);
    assert.deepEqual(process.problems(), []);
    assert.equal(process.id, id);
  });

  it("begins another life under a new id once it knows that its lease was lost", async () => {
    const process = await world.start(fake().command);
    await until(process);
    const { id } = process;
    world.views[0]?.cut();
    await untilTrue("the end of its lease", () => world.sessions.length === 0);
    world.views[0]?.heal();
    await untilTrue("another life", () => world.sessions.length === 1);
    assert.notEqual(process.id, id);
    assert.equal(world.sessions[0]?.id, process.id);
    await until(process);
  });

  it("waits while its name is taken, says whose, and takes it over", async () => {
    const [first, second] = [fake("s-1"), fake("s-1")];
    const before = await world.start(first.command);
    await until(before);
    const after = await world.start(second.command);
    await until(after, "another session is called s-1: it waits until that one is gone");
    await before.stop();
    await until(after);
    assert.deepEqual(
      world.sessions.map(({ id, name }) => [id, name]),
      [[after.id, "s-1"]],
    );
  });

  it("goes away in order: not ready, announced as draining, drained, gone, closed", async () => {
    const it = fake();
    const draining = new Event();
    const process = await world.start(it.command, { PARLEY_DRAIN_MS: "20000" });
    let bound = 0;
    it.drain = (given) => {
      bound = given;
      return draining.happened;
    };
    await until(process);
    const stopped = process.stop();
    await untilTrue("its drain", () => it.events.includes("drain"));
    assert.equal(bound, 20_000);
    assert.match(await readyz(process), /^503 .*it is going away/);
    assert.deepEqual(
      world.sessions.map(({ id, draining: is }) => [id, is]),
      [[process.id, true]],
    );
    const unwatch = world.watching.instances("session").watch(() => it.events.push("gone"));
    draining.happen();
    await within(boundMs, "its end", stopped);
    unwatch();
    assert.deepEqual(it.events, ["start", "drain", "gone", "close"]);
    assert.deepEqual(world.sessions, []);
    await within(boundMs, "its end", process.ended);
    await assert.rejects(fetch(`http://${process.front}/healthz`));
  });

  it("ends in time where its drain does not, and where nobody hears that it leaves", async () => {
    const it = fake();
    it.drain = () => new Promise(() => undefined);
    const process = await world.start(it.command);
    await until(process);
    world.views[0]?.cut();
    await within(5_000, "its end", process.stop());
    assert.equal(it.events.at(-1), "close");
  });

  it("is announced as draining also where its lease is lost meanwhile", async () => {
    const it = fake();
    const draining = new Event();
    it.drain = () => draining.happened;
    const process = await world.start(it.command, { PARLEY_DRAIN_MS: "20000" });
    await until(process);
    const { id } = process;
    const stopped = process.stop();
    await untilTrue("its drain", () => it.events.includes("drain"));
    world.directories.endLease(id);
    await untilTrue("another life", () => process.id !== id && world.sessions.length === 1);
    assert.equal(world.sessions[0]?.draining, true);
    draining.happen();
    await within(boundMs, "its end", stopped);
    assert.deepEqual(world.sessions, []);
  });

  it("announces the shards that were moved to it, in its next life too, and none before it is announced", async () => {
    const it = fake();
    await assert.rejects(it.pins.set(3, true), { code: Code.FailedPrecondition });
    const process = await world.start(it.command);
    await until(process);
    await it.pins.set(5, true);
    await it.pins.set(3, true);
    assert.deepEqual(world.sessions[0]?.pinned, [3, 5]);
    const { id } = process;
    world.directories.endLease(id);
    await untilTrue("another life", () => process.id !== id && world.sessions.length === 1);
    assert.deepEqual(world.sessions[0]?.pinned, [3, 5]);
    await until(process);
    await it.pins.set(5, false);
    assert.deepEqual(world.sessions[0]?.pinned, [3]);
  });

  it("ends at once while it still waits for the directory", async () => {
    const waits: OpenDirectory = (_config, _outside, signal) =>
      new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
      });
    const process = await world.start(fake().command, {}, waits);
    await within(1_000, "its end", process.stop());
    await within(1_000, "its end", process.ended);
  });

  it("gives up, and says why, where waiting would not help", async () => {
    const process = await world.start(fake().command, {}, () =>
      Promise.reject(new ConnectError("etcd has 8 shards for good", Code.FailedPrecondition)),
    );
    await assert.rejects(within(boundMs, "its end", process.ended), /etcd has 8 shards for good/);
    await assert.rejects(fetch(`http://${process.front}/healthz`));
  });

  it("names the setting of a port that is taken, and lets go of the others", async () => {
    const taker = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => taker.once("listening", resolve));
    const { port } = taker.address() as AddressInfo;
    for (const setting of ["PARLEY_MESH_PORT", "PARLEY_HEALTH_PORT"])
      await assert.rejects(
        world.start(fake().command, { [setting]: String(port) }),
        new RegExp(`EADDRINUSE.*Choose another port with ${setting}`),
      );
    taker.close();
  });
});

/** Storage over a store in memory, which no command starts. */
function memoryStorage(mediaFolder: string): Command {
  const spec: ServiceProcess<typeof StorageService, OwnConfig> = {
    name: "storage",
    service: StorageService,
    readConfig: withoutEdge,
    async make({ surroundings }) {
      const media = await openMediaFolder(mediaFolder, systemRandom);
      return { running: createStorage(surroundings, { store: openMemoryStore(), media }) };
    },
  };
  return command(spec);
}

describe("all five processes", function () {
  this.timeout(30_000);
  let world: World;
  let folder: Awaited<ReturnType<typeof newFolder>>;
  const edge = { PARLEY_PORT: "0", PARLEY_JWT_SECRET: secret };

  /** Without a setting that it does not know. */
  const startGateway = (name: string, settings: Record<string, string> = {}) =>
    gatewayCommand
      .configured({
        ...edge,
        PARLEY_GATEWAY_ID: name,
        PARLEY_MESH_PORT: "0",
        PARLEY_DRAIN_MS: "0",
        ...settings,
      })
      .start({ log, openDirectory: world.open });

  let gateways: RunningProcess[] = [];
  const open = async (gateway: RunningProcess | undefined, userId: string): Promise<SocketDevice> =>
    SocketDevice.open({
      url: `http://${gateway?.front ?? ""}`,
      token: await tokenFor(userId),
      deviceId: "phone",
    });

  beforeEach(async () => {
    world = new World();
    folder = await newFolder();
    gateways = await Promise.all(["gateway-0", "gateway-1"].map((name) => startGateway(name)));
  });
  afterEach(async () => {
    await Promise.all(gateways.map((gateway) => gateway.stop()));
    await world.close();
    await folder.remove();
  });

  it("P1 P3: find one another in any order, and pass messages between clients of two gateways; a drained delivery and session are missed by nobody", async () => {
    const presence = await world.start(presenceCommand);
    const session = await world.start(sessionCommand);
    const delivery = await world.start(deliveryCommand);
    for (const waiting of [presence, delivery, ...gateways])
      assert.notDeepEqual(waiting.problems(), []);
    const storage = await world.start(memoryStorage(folder.path));
    for (const one of [storage, session, presence, delivery, ...gateways]) await until(one);

    const [alice, bob] = await Promise.all([open(gateways[0], "alice"), open(gateways[1], "bob")]);
    const direct = directId("alice", "bob");
    await alice.send(textTo("bob", "one"));
    assert.equal(textOf(await bob.inbox.record(direct, 1)), "one");

    const later = { PARLEY_DRAIN_MS: "8000" };
    const others = [
      await world.start(deliveryCommand, later),
      await world.start(sessionCommand, later),
    ];
    for (const one of others) await until(one);
    await Promise.all([delivery.stop(), session.stop()]);
    assert.deepEqual(
      ["delivery", "session"].map((service) =>
        world.watching
          .instances(service === "delivery" ? "delivery" : "session")
          .present.map(({ id }) => id),
      ),
      others.map(({ id }) => [id]),
    );
    await bob.send(textTo("alice", "two"));
    assert.equal(textOf(await alice.inbox.record(direct, 2)), "two");
    await Promise.all([alice.close(), bob.close()]);
  });

  it("a gateway that goes away says goodbye to its clients, and leaves", async () => {
    const rest = [sessionCommand, presenceCommand, deliveryCommand, memoryStorage(folder.path)];
    await Promise.all(rest.map((one) => world.start(one)));
    for (const gateway of gateways) await until(gateway);
    const alice = await open(gateways[0], "alice");
    await gateways[0]?.stop();
    const goodbye = await alice.inbox.until("goodbye", (inbox) => inbox.goodbye);
    assert.ok(goodbye.reconnectAfterMs >= 0);
    assert.deepEqual(
      world.watching.instances("gateway").present.map(({ name }) => name),
      ["gateway-1"],
    );
    await alice.close();
  });
});
