/** Channels that follow a list of instances: one to any of them, and one to each. */
import { Code, createClient } from "@connectrpc/connect";
import assert from "node:assert/strict";
import { ManualClock, systemClock } from "../../mesh/clock.ts";
import type { Clock } from "../../mesh/clock.ts";
import type { Instance, InstanceList } from "../../mesh/directory.ts";
import { GrpcMesh } from "../../mesh/grpc/mesh.ts";
import { GrpcPeers } from "../../mesh/grpc/peers.ts";
import { createGrpcTransport } from "../../mesh/grpc/transport.ts";
import { createLog } from "../../mesh/log.ts";
import { asked, within } from "../support/within.ts";
import { Event, failure, fired, serve, settled } from "./fake-storage.ts";
import type { StorageClient } from "./fake-storage.ts";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";

const log = createLog({ level: "silent" });
const timeoutMs = 5_000;

class Instances implements InstanceList {
  present: readonly Instance[] = [];
  readonly #listeners = new Set<() => void>();

  watch(changed: () => void): () => void {
    this.#listeners.add(changed);
    return () => void this.#listeners.delete(changed);
  }

  get watchers(): number {
    return this.#listeners.size;
  }

  set(...present: readonly Instance[]): void {
    this.present = present;
    for (const changed of [...this.#listeners]) changed();
  }
}

/** A server that counts the calls made on it, and keeps streams open. */
class Counting {
  calls = 0;
  readonly mesh: GrpcMesh;
  readonly instance: Instance;

  private constructor(mesh: GrpcMesh, id: string) {
    this.mesh = mesh;
    const address = `127.0.0.1:${mesh.port}`;
    this.instance = {
      ...{ service: "storage", id, name: "", address, region: "", url: "", draining: false },
    };
    serve(mesh, {
      revoke: () => {
        this.calls += 1;
        return {};
      },
      getMedia: (_, { signal }) => this.#stream(id, signal),
    });
  }

  #next = new Event();

  async *#stream(id: string, signal: AbortSignal) {
    while (!signal.aborted) {
      yield { part: { case: "chunk" as const, value: Buffer.from(id) } };
      await Promise.race([this.#next.happened, fired(signal)]);
    }
  }

  static async start(id: string): Promise<Counting> {
    return new Counting(await GrpcMesh.listen({ log }), id);
  }

  /** Every stream gets one more message. */
  say(): void {
    const next = this.#next;
    this.#next = new Event();
    next.happen();
  }

  get draining(): Instance {
    return { ...this.instance, draining: true };
  }
}

describe("a gRPC transport to any instance", () => {
  let instances: Instances;
  let servers: Counting[];
  let closing: (() => unknown)[];
  beforeEach(async () => {
    instances = new Instances();
    closing = [];
    servers = await Promise.all(["a", "b", "c"].map((id) => Counting.start(id)));
  });
  afterEach(async () => {
    for (const close of closing) close();
    await Promise.all(servers.map(({ mesh }) => mesh.close()));
  });

  const [a, b, c] = [0, 1, 2].map((at) => (): Counting => {
    const server = servers[at];
    assert(server);
    return server;
  });
  assert(a && b && c);

  function client(clock: Clock = systemClock): StorageClient {
    const transport = createGrpcTransport({ instances, clock });
    closing.push(() => transport.close());
    return createClient(StorageService, transport);
  }

  const counts = (): number[] => servers.map(({ calls }) => calls);

  /** Calls until each of those was called, which none of the calls fails for. */
  async function reach(one: StorageClient, wanted: readonly Counting[]): Promise<void> {
    const before = wanted.map(({ calls }) => calls);
    await asked(timeoutMs, "a call at each", async () => {
      await one.revoke({}, { timeoutMs });
      return wanted.every(({ calls }, at) => calls > (before[at] ?? 0)) ? true : undefined;
    });
  }

  async function call(one: StorageClient, times: number): Promise<number[]> {
    const before = counts();
    for (let n = 0; n < times; n++) await one.revoke({}, { timeoutMs });
    return counts().map((now, at) => now - (before[at] ?? 0));
  }

  it("spreads calls evenly", async () => {
    instances.set(a().instance, b().instance, c().instance);
    const one = client();
    await reach(one, servers);
    assert.deepEqual(await call(one, 30), [10, 10, 10]);
  });

  it("follows who comes and goes, and no call fails for it", async () => {
    instances.set(a().instance);
    const one = client();
    assert.deepEqual(await call(one, 4), [4, 0, 0]);
    instances.set(a().instance, b().instance);
    await reach(one, [a(), b()]);
    assert.deepEqual(await call(one, 10), [5, 5, 0]);
    instances.set(b().instance, c().instance);
    await reach(one, [b(), c()]);
    assert.deepEqual(await call(one, 10), [0, 5, 5]);
  });

  it("gives who is going away no new calls, and leaves its streams alone", async () => {
    instances.set(a().instance);
    const one = client();
    const stream = one.getMedia({}, { timeoutMs: 30_000 })[Symbol.asyncIterator]();
    await within(timeoutMs, "the first message", stream.next());
    instances.set(a().draining, b().instance, c().instance);
    await reach(one, [b(), c()]);
    assert.deepEqual(await call(one, 10), [0, 5, 5]);
    const next = stream.next();
    a().say();
    const { value } = await within(timeoutMs, "the next message", next);
    assert.deepEqual(value?.part.value, Buffer.from("a"));
    await stream.return?.();
  });

  it("goes on with those that are going away where there are no others", async () => {
    instances.set(a().draining, b().draining);
    const one = client();
    await reach(one, [a(), b()]);
  });

  it("goes elsewhere after the call at which it sees that one is dead", async () => {
    instances.set(a().instance, b().instance, c().instance);
    const one = client();
    await reach(one, servers);
    await a().mesh.close();
    const codes: (Code | undefined)[] = [];
    for (let n = 0; n < 20; n++)
      codes.push(
        await one.revoke({}, { timeoutMs }).then(
          () => undefined,
          ({ code }) => code as Code,
        ),
      );
    const failed = codes.filter((code) => code !== undefined);
    assert(failed.length <= 1, `failed: ${failed.join()}`);
    assert(failed.every((code) => code === Code.Unavailable));
    const seen = await call(one, 10);
    assert.deepEqual([seen[0], (seen[1] ?? 0) + (seen[2] ?? 0)], [0, 10]);
  });

  it("ends the streams of one that died with UNAVAILABLE", async () => {
    instances.set(a().instance);
    const stream = client().getMedia({}, { timeoutMs })[Symbol.asyncIterator]();
    await stream.next();
    const ended = failure(() => stream.next());
    await a().mesh.close();
    assert.equal((await ended).code, Code.Unavailable);
  });

  it("ends the calls at one that is gone, and not where it is there again at once", async () => {
    const clock = new ManualClock();
    instances.set(a().instance);
    const stream = client(clock).getMedia({}, { timeoutMs })[Symbol.asyncIterator]();
    await stream.next();
    instances.set(b().instance);
    clock.advance(499);
    instances.set({ ...a().instance, id: "a, another life" });
    clock.advance(1);
    const next = stream.next();
    a().say();
    await within(timeoutMs, "the next message", next);
    const ended = failure(() => stream.next());
    instances.set(b().instance);
    clock.advance(500);
    const { code, rawMessage } = await within(timeoutMs, "the end", ended);
    assert.equal(code, Code.Unavailable);
    assert.match(rawMessage, /is gone/);
  });

  it("says that there is none, two seconds after it was asked", async () => {
    const clock = new ManualClock();
    const one = client(clock);
    let failed = false;
    const error = failure(() => one.revoke({})).then((seen) => {
      failed = true;
      return seen;
    });
    await asked(timeoutMs, "the channel to look", () =>
      Promise.resolve(instances.watchers > 1 ? true : undefined),
    );
    clock.advance(1_999);
    assert.equal(await settled(() => Number(failed)), 0, "failed too early");
    clock.advance(1);
    const { code, rawMessage } = await within(timeoutMs, "the error", error);
    assert.equal(code, Code.Unavailable);
    assert.match(rawMessage, /no instance/);
    // From now on at once, until there is one.
    assert.equal(
      (
        await within(
          timeoutMs,
          "the next",
          failure(() => one.revoke({})),
        )
      ).code,
      Code.Unavailable,
    );
    instances.set(a().instance);
    await asked(timeoutMs, "a call that goes well", () =>
      one.revoke({}, { timeoutMs }).then(
        () => true,
        () => undefined,
      ),
    );
  });

  it("waits for the first to come", async () => {
    const one = client();
    const called = one.revoke({}, { timeoutMs });
    await asked(timeoutMs, "the channel to look", () =>
      Promise.resolve(instances.watchers > 1 ? true : undefined),
    );
    instances.set(a().instance);
    await called;
  });

  it("says that there is none when the last has gone", async () => {
    const clock = new ManualClock();
    instances.set(a().instance);
    const one = client(clock);
    await call(one, 1);
    instances.set();
    clock.advance(2_000);
    const { code, rawMessage } = await failure(() => one.revoke({}, { timeoutMs }));
    assert.equal(code, Code.Unavailable);
    assert.match(rawMessage, /no instance/);
    assert.equal(a().calls, 1);
  });

  it("listens to the list no longer once it is closed", async () => {
    instances.set(a().instance);
    const one = client();
    await call(one, 1);
    assert.notEqual(instances.watchers, 0);
    for (const close of closing) close();
    assert.equal(instances.watchers, 0);
  });
});

describe("gRPC peers", () => {
  let instances: Instances;
  let servers: Counting[];
  let peers: GrpcPeers;
  beforeEach(async () => {
    instances = new Instances();
    servers = await Promise.all(["a", "b"].map((id) => Counting.start(id)));
    peers = new GrpcPeers(instances, { clock: systemClock });
  });
  afterEach(async () => {
    peers.close();
    await Promise.all(servers.map(({ mesh }) => mesh.close()));
  });

  const at = (n: number): Counting => {
    const server = servers[n];
    assert(server);
    return server;
  };
  const clientOf = (n: number): StorageClient => {
    const peer = peers.present[n];
    assert(peer);
    return createClient(StorageService, peer.transport);
  };

  it("reach each instance by itself, by one connection as long as it lives", async () => {
    instances.set(at(0).instance, at(1).instance);
    assert.deepEqual(
      peers.present.map(({ id }) => id),
      ["a", "b"],
    );
    await clientOf(1).revoke({}, { timeoutMs });
    assert.deepEqual(
      servers.map(({ calls }) => calls),
      [0, 1],
    );
    const before = peers.present;
    instances.set(at(0).draining, { ...at(1).instance, url: "https://b.example.org" });
    assert.notEqual(peers.present, before);
    assert.deepEqual(
      peers.present.map(({ transport }) => transport),
      before.map(({ transport }) => transport),
    );
    assert.deepEqual(
      peers.present.map(({ draining, url }) => [draining, url]),
      [
        [true, ""],
        [false, "https://b.example.org"],
      ],
    );
    await clientOf(0).revoke({}, { timeoutMs });
  });

  it("end what is under way at one that is gone, after those who watch were told", async () => {
    instances.set(at(0).instance, at(1).instance);
    const stream = clientOf(0).getMedia({}, { timeoutMs })[Symbol.asyncIterator]();
    await stream.next();
    const [gone] = peers.present;
    const order: string[] = [];
    peers.watch(() => order.push(`told: ${peers.present.map(({ id }) => id).join()}`));
    const ended = failure(() => stream.next()).then((error) => {
      order.push("ended");
      return error;
    });
    instances.set(at(1).instance);
    assert.equal((await within(timeoutMs, "the end", ended)).code, Code.Unavailable);
    assert.deepEqual(order, ["told: b", "ended"]);
    assert(gone);
    const late = await failure(() => createClient(StorageService, gone.transport).revoke({}));
    assert.equal(late.code, Code.Unavailable);
    await clientOf(0).revoke({}, { timeoutMs });
    assert.equal(at(1).calls, 1);
  });

  it("reach another life at the same address by another connection", async () => {
    instances.set(at(0).instance);
    const [before] = peers.present;
    instances.set({ ...at(0).instance, id: "a2" });
    const [after] = peers.present;
    assert.notEqual(after?.transport, before?.transport);
    await clientOf(0).revoke({}, { timeoutMs });
  });

  it("listen to the list no longer once they are closed", () => {
    assert.equal(instances.watchers, 1);
    peers.close();
    assert.equal(instances.watchers, 0);
  });
});
