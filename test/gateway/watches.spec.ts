/** The gateway's way to many presence instances: sets are split, answers are put together, and the order of what is told is kept. */
import assert from "node:assert/strict";
import { Code, ConnectError } from "@connectrpc/connect";
import { Connections } from "../../gateway/connections.ts";
import { PresenceLinks } from "../../gateway/watches.ts";
import { noMetrics } from "../../mesh/metrics.ts";
import { ManualClock } from "../../mesh/clock.ts";
import { Identity } from "../../mesh/identity.ts";
import { LocalMesh } from "../../mesh/local.ts";
import { PeerTable, peerOf } from "../../mesh/peers.ts";
import type { Peer } from "../../mesh/peers.ts";
import { seededRandom } from "../../mesh/random.ts";
import { PresenceService } from "../../proto/gen/parley/presence/v1/presence_pb.ts";
import type { WatchSet } from "../../proto/gen/parley/presence/v1/presence_pb.ts";
import { FakeRecipient, userWho } from "./recipient.ts";
import { FakePresence, silent, turns, until } from "./world.ts";

class Cluster {
  readonly clock = new ManualClock();
  readonly peers = new PeerTable();
  readonly connections = new Connections(1_000, 10, 10);
  readonly #meshes: LocalMesh[] = [];
  readonly links = new PresenceLinks(
    {
      clock: this.clock,
      random: seededRandom(1),
      log: silent,
      metrics: noMetrics,
      identity: new Identity(seededRandom(2)),
      transport: () => {
        throw new Error("the gateway asks for the instance of a user");
      },
      peers: () => this.peers,
    },
    this.connections,
  );

  instance(id: string): { presence: FakePresence; peer: Peer } {
    const mesh = new LocalMesh({ clock: this.clock });
    this.#meshes.push(mesh);
    const presence = new FakePresence();
    mesh.serve(PresenceService, { watch: presence.watch } as never);
    return { presence, peer: peerOf(id, mesh.transport(PresenceService)) };
  }

  connect(): FakeRecipient {
    const one = new FakeRecipient(this.connections.next(), "watcher");
    this.connections.add(one);
    return one;
  }

  /** What it watches now; the answer is told to it as its device is. */
  watch(one: FakeRecipient, userIds: string[]): Promise<void> {
    return this.links.watch(one.number, one.userId, userIds).then(
      (presences) => {
        one.told.push(
          `answer ${presences
            .map(({ userId }) => userId)
            .toSorted()
            .join(" ")}`,
        );
      },
      (error: unknown) => {
        const { code, rawMessage } = ConnectError.from(error);
        one.told.push(`${Code[code]}: ${rawMessage}`);
      },
    );
  }

  async close(): Promise<void> {
    await this.links.close();
    for (const mesh of this.#meshes) await mesh.close();
  }
}

const shown = ({ connection, userIds }: WatchSet): [number, string] => [connection, userIds.join()];

describe("the gateway among presence instances", () => {
  let cluster: Cluster;
  let a: ReturnType<Cluster["instance"]>;
  let b: ReturnType<Cluster["instance"]>;
  let one: FakeRecipient;
  /** Both fall to a; the second one to b where b is there. */
  const amy = userWho({ a: "a", "a b": "a" }, "amy");
  const ben = userWho({ a: "a", "a b": "b" }, "ben");

  beforeEach(() => {
    cluster = new Cluster();
    [a, b] = [cluster.instance("a"), cluster.instance("b")];
    one = cluster.connect();
  });
  afterEach(() => cluster.close());

  const start = (...peers: Peer[]): void => {
    cluster.peers.replace(peers);
    cluster.links.start();
  };
  const last = ({ presence }: typeof a): WatchSet => {
    const set = presence.sets.at(-1);
    assert.ok(set !== undefined, "it was asked nothing");
    return set;
  };

  it("asks each instance about its users, and answers when all have", async () => {
    start(a.peer, b.peer);
    b.presence.answers = false;
    const answered = cluster.watch(one, [amy, ben]);
    await until(() => a.presence.sets.length + b.presence.sets.length === 2);
    assert.deepEqual(shown(last(a)), [one.number, amy]);
    assert.deepEqual(shown(last(b)), [one.number, ben]);
    assert.equal(last(b).userId, "watcher");
    await turns(10);
    assert.deepEqual(one.told, [], "answered with a part");
    b.presence.snapshot(last(b));
    await answered;
    assert.deepEqual(one.told, [`answer ${amy} ${ben}`]);
  });

  it("a new set replaces all parts: who has none any more is told so", async () => {
    start(a.peer, b.peer);
    await cluster.watch(one, [amy, ben]);
    await cluster.watch(one, [amy]);
    assert.deepEqual(shown(last(b)), [one.number, ""]);
    assert.deepEqual(one.told, [`answer ${amy} ${ben}`, `answer ${amy}`]);
    await cluster.watch(one, []);
    assert.deepEqual(shown(last(a)), [one.number, ""]);
    assert.equal(one.told.at(-1), "answer ");
  });

  it("is unavailable without an instance, with one that refuses or is lost, and late", async () => {
    start();
    assert.deepEqual(cluster.links.problems(), ["the gateway knows of no presence instance"]);
    await cluster.watch(one, [amy]);
    cluster.peers.replace([a.peer, b.peer]);
    b.presence.answers = false;
    const refused = cluster.watch(one, [amy, ben]);
    await until(() => b.presence.sets.length === 1);
    b.presence.refuse(last(b));
    await refused;
    await until(() => last(a).userIds.length + last(b).userIds.length === 0);

    const lost = cluster.watch(one, [amy, ben]);
    await until(() => last(b).userIds.length === 1);
    b.presence.break();
    await lost;
    await turns(5);
    cluster.clock.advance(50);
    await until(() => b.presence.sets.length === 4);

    const late = cluster.watch(one, [amy, ben]);
    await turns(10);
    cluster.links.expire(cluster.clock.monotonic() + 9_999);
    await turns(5);
    assert.equal(one.told.length, 3);
    cluster.links.expire(cluster.clock.monotonic() + 10_000);
    await late;
    assert.deepEqual(one.told, [
      "Unavailable: presence cannot be watched just now",
      "Unavailable: storage is away",
      "Unavailable: the answer of presence was lost, try again",
      "Unavailable: presence does not answer in time",
    ]);
  });

  it("P7 a change comes after the answer that it changes, also where another part is late", async () => {
    start(a.peer, b.peer);
    b.presence.answers = false;
    const answered = cluster.watch(one, [amy, ben]);
    await until(() => a.presence.sets.length + b.presence.sets.length === 2);
    await turns(5);
    a.presence.change([one.number], amy);
    await turns(10);
    assert.deepEqual(one.told, []);
    b.presence.snapshot(last(b), ben);
    await answered;
    await until(() => one.told.length === 3);
    assert.deepEqual(one.told, [`answer ${amy} ${ben}`, `${amy} offline`, `${ben} offline`]);
  });

  it("P7 what a later set's answer has newer is not told after it", async () => {
    start(a.peer, b.peer);
    b.presence.answers = false;
    const first = cluster.watch(one, [amy, ben]);
    await turns(10);
    a.presence.change([one.number], amy);
    await turns(5);
    const second = cluster.watch(one, [amy, ben]);
    await turns(10);
    const [earlier, later] = b.presence.sets;
    assert.ok(earlier && later);
    b.presence.snapshot(earlier);
    b.presence.snapshot(later);
    await Promise.all([first, second]);
    await turns(10);
    assert.deepEqual(one.told, [`answer ${amy} ${ben}`, `answer ${amy} ${ben}`]);
  });

  it("changes reach those who are not waiting for an answer at once", async () => {
    start(a.peer, b.peer);
    const other = cluster.connect();
    await cluster.watch(other, [amy]);
    b.presence.answers = false;
    const answered = cluster.watch(one, [amy, ben]);
    await turns(10);
    a.presence.change([one.number, other.number], amy);
    await until(() => other.told.length === 2);
    assert.deepEqual([one.told, other.told.at(-1)], [[], `${amy} offline`]);
    b.presence.snapshot(last(b));
    await answered;
    await until(() => one.told.length === 2);
  });

  it("an instance comes: sets are split anew, and only parts that changed are sent and pushed", async () => {
    start(a.peer);
    const other = cluster.connect();
    await cluster.watch(one, [amy, ben]);
    await cluster.watch(other, [amy]);
    const before = a.presence.sets.length;
    cluster.peers.replace([a.peer, b.peer]);
    await until(() => one.told.length === 3);
    assert.deepEqual(b.presence.sets.map(shown), [[one.number, ben]]);
    assert.deepEqual(a.presence.sets.slice(before).map(shown), [[one.number, amy]]);
    assert.deepEqual(one.told.slice(1).toSorted(), [`${amy} online`, `${ben} online`]);
    assert.equal(other.told.length, 1);
  });

  it("P7 an instance that a user does not fall to any more is not heard about that one", async () => {
    start(a.peer);
    await cluster.watch(one, [amy, ben]);
    cluster.peers.replace([a.peer, b.peer]);
    await until(() => one.told.length === 3);
    a.presence.change([one.number], ben);
    a.presence.change([one.number], amy);
    await until(() => one.told.length === 4);
    assert.equal(one.told.at(-1), `${amy} offline`);
  });

  it("an instance goes: its users are watched elsewhere, and told", async () => {
    start(a.peer, b.peer);
    await cluster.watch(one, [amy, ben]);
    cluster.peers.replace([a.peer]);
    await until(() => one.told.length === 3);
    assert.deepEqual(shown(last(a)), [one.number, `${amy},${ben}`]);
    assert.deepEqual(one.told.slice(1).toSorted(), [`${amy} online`, `${ben} online`]);
  });

  it("a broken stream: its parts are set again, and told", async () => {
    start(a.peer, b.peer);
    await cluster.watch(one, [amy, ben]);
    b.presence.break();
    await turns(10);
    cluster.clock.advance(50);
    await until(() => one.told.length === 2);
    assert.deepEqual(one.told, [`answer ${amy} ${ben}`, `${ben} online`]);
    assert.deepEqual([a.presence.sets.length, b.presence.sets.length], [1, 2]);
  });

  it("P7 a part that is set again and cannot be answered is asked for until it is", async () => {
    start(a.peer, b.peer);
    await cluster.watch(one, [amy, ben]);
    b.presence.answers = false;
    b.presence.break();
    await turns(10);
    cluster.clock.advance(50);
    const again = await until(() => b.presence.sets[1]);
    b.presence.refuse(again);
    await turns(10);
    b.presence.answers = true;
    cluster.clock.advance(1_000);
    await until(() => one.told.length === 2);
    assert.deepEqual(one.told, [`answer ${amy} ${ben}`, `${ben} online`]);
    assert.equal(a.presence.sets.length, 1);
  });

  it("ends at all instances with the connection", async () => {
    start(a.peer, b.peer);
    await cluster.watch(one, [amy, ben]);
    cluster.links.ended(one.number);
    await until(() => a.presence.ended.length + b.presence.ended.length === 2);
    cluster.peers.replace([a.peer]);
    await turns(10);
    assert.equal(a.presence.sets.length, 1);
  });

  it("that ends while it waits ends its call, which is nobody's fault", async () => {
    start(a.peer, b.peer);
    b.presence.answers = false;
    const answered = cluster.watch(one, [amy, ben]);
    await until(() => b.presence.sets.length === 1);
    cluster.links.ended(one.number);
    await answered;
    assert.deepEqual(one.told, ["Canceled: the connection ended"]);
  });

  it("splits very many anew, some in each turn", async () => {
    start(a.peer);
    const all = Array.from({ length: 1_200 }, () => cluster.connect());
    await Promise.all(all.map((each) => cluster.watch(each, [ben])));
    cluster.peers.replace([a.peer, b.peer]);
    await until(() => all.every(({ told }) => told.length === 2));
    assert.equal(b.presence.sets.length, 1_200);
  });
});
