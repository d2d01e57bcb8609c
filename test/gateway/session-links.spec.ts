/** The gateway's way to many session instances: who is announced where, and what happens when instances come and go. */
import assert from "node:assert/strict";
import { SessionLinks } from "../../gateway/session-links.ts";
import { ManualClock } from "../../mesh/clock.ts";
import { Identity } from "../../mesh/identity.ts";
import { LocalMesh } from "../../mesh/local.ts";
import { PeerTable, peerOf } from "../../mesh/peers.ts";
import type { Peer } from "../../mesh/peers.ts";
import { seededRandom } from "../../mesh/random.ts";
import { CloseReason } from "../../proto/gen/parley/v1/chat_pb.ts";
import { SessionService } from "../../proto/gen/parley/session/v1/session_pb.ts";
import { FakeRecipient, userWho } from "./recipient.ts";
import { FakeSession, silent, turns, until } from "./world.ts";

class Cluster {
  readonly clock = new ManualClock();
  readonly identity = new Identity(seededRandom(2));
  readonly peers = new PeerTable();
  readonly #meshes: LocalMesh[] = [];
  readonly links = new SessionLinks(
    {
      clock: this.clock,
      random: seededRandom(1),
      log: silent,
      identity: this.identity,
      transport: () => {
        throw new Error("the gateway asks for the instance of a user");
      },
      peers: () => this.peers,
    },
    "g1",
  );
  #last = 0;

  instance(id: string): { session: FakeSession; peer: Peer } {
    const mesh = new LocalMesh({ clock: this.clock });
    this.#meshes.push(mesh);
    const session = new FakeSession();
    mesh.serve(SessionService, { attach: session.attach } as never);
    return { session, peer: peerOf(id, mesh.transport(SessionService)) };
  }

  /** A connection that is announced. */
  attach(userId: string): FakeRecipient {
    this.#last += 1;
    const one = new FakeRecipient(this.#last, userId);
    this.links.attach(one);
    return one;
  }

  /** One that was attached; what it was told so far is forgotten. */
  async attached(userId: string): Promise<FakeRecipient> {
    const one = this.attach(userId);
    await until(() => one.told.length === 1);
    assert.deepEqual(one.told.splice(0), ["attached"]);
    return one;
  }

  async close(): Promise<void> {
    await this.links.close();
    for (const mesh of this.#meshes) await mesh.close();
  }
}

describe("the gateway among session instances", () => {
  let cluster: Cluster;
  let a: ReturnType<Cluster["instance"]>;
  let b: ReturnType<Cluster["instance"]>;
  let c: ReturnType<Cluster["instance"]>;
  /** Falls to a, but to b where b is there. */
  const moving = userWho({ a: "a", "a b": "b" });
  const staying = userWho({ a: "a", "a b": "a" });

  beforeEach(() => {
    cluster = new Cluster();
    [a, b, c] = [cluster.instance("a"), cluster.instance("b"), cluster.instance("c")];
  });
  afterEach(() => cluster.close());

  const start = (...peers: Peer[]): void => {
    cluster.peers.replace(peers);
    cluster.links.start();
  };
  const draining = (peer: Peer): Peer => ({ ...peer, draining: true });

  it("announces each connection at its user's instance, and tells it once that it is attached", async () => {
    start(a.peer, b.peer);
    const one = await cluster.attached(staying);
    const other = await cluster.attached(moving);
    assert.deepEqual([...a.session.attached.keys()], [one.number]);
    assert.deepEqual([...b.session.attached.keys()], [other.number]);
    assert.equal(a.session.attached.get(one.number)?.again, false);
    assert.deepEqual(cluster.links.problems(), []);
  });

  it("waits where there is no instance, and says so", async () => {
    start();
    const one = cluster.attach(moving);
    await turns(10);
    assert.deepEqual(one.told, []);
    assert.equal(cluster.links.up, false);
    assert.deepEqual(cluster.links.problems(), ["the gateway knows of no session instance"]);
    cluster.peers.replace([a.peer]);
    await until(() => one.told.length === 1);
    assert.deepEqual(one.told, ["attached"]);
    assert.equal(a.session.attached.get(one.number)?.again, false);
  });

  it("P6 an instance comes: who moves is told to sync once it is attached there, and leaves 5 s later", async () => {
    start(a.peer);
    const one = await cluster.attached(moving);
    b.session.acks = false;
    cluster.peers.replace([a.peer, b.peer]);
    await until(() => b.session.attached.size === 1);
    assert.equal(b.session.attached.get(one.number)?.again, true);
    cluster.clock.advance(60_000);
    await turns(10);
    assert.deepEqual(one.told, [], "told to sync before it is attached");
    assert.equal(a.session.attached.size, 1, "detached before it is attached elsewhere");

    b.session.ack([one.number]);
    await until(() => one.told.length === 1);
    assert.deepEqual(one.told, ["resync"]);
    await turns(5);
    cluster.clock.advance(4_999);
    await turns(10);
    assert.equal(a.session.attached.size, 1, "publishers with an older ring reach it no more");
    cluster.clock.advance(1);
    await until(() => a.session.attached.size === 0);
    assert.equal(b.session.attached.size, 1);
  });

  it("P6 an instance comes and many move: they are told to sync over 1 ms each, 10 s at most, each once; it makes no difference who says so", async () => {
    start(a.peer);
    const all = Array.from({ length: 2_000 }, (_, n) => cluster.attach(`${moving} ${n}`));
    await until(() => all.every(({ told }) => told.splice(0).length === 1));
    cluster.peers.replace([b.peer]);
    await until(() => b.session.attached.size === 2_000);
    await turns(20);
    const told = (): number => all.filter(({ told: one }) => one.length > 0).length;
    const atOnce = told();
    assert.ok(atOnce > 0 && atOnce < 200, `${atOnce} are told at once`);
    const gone = all.filter(({ told: one }) => one.length === 0).slice(0, 10);
    for (const one of gone) cluster.links.detach(one);
    b.session.push(
      all.map(({ userId }) => userId),
      { case: "resync", value: true },
    );
    await turns(20);
    let most = 0;
    for (let ms = 0; ms < 10_000; ms += 20) {
      const before = told();
      cluster.clock.advance(20);
      most = Math.max(most, told() - before);
    }
    assert.ok(most < 60, `${most} in one go`);
    assert.deepEqual(
      gone.map(({ told: one }) => one.length),
      gone.map(() => 0),
    );
    const stayed = all.filter((one) => !gone.includes(one));
    assert.ok(stayed.every(({ told: one }) => one[0] === "resync"));
    assert.ok(stayed.filter(({ told: one }) => one.length === 1).length > 1_800, "told twice");
    assert.equal(told(), 1_990);
  });

  it("leaves alone who does not move", async () => {
    start(a.peer);
    const one = await cluster.attached(staying);
    const requests = a.session.requests.length;
    cluster.peers.replace([a.peer, b.peer]);
    await until(() => b.session.streams === 1);
    cluster.clock.advance(10_000);
    await turns(10);
    assert.deepEqual(one.told, []);
    assert.equal(a.session.requests.length, requests);
    assert.equal(b.session.attached.size, 0);
  });

  it("P6 lets pushes from both through while it is at both", async () => {
    start(a.peer);
    const one = await cluster.attached(moving);
    cluster.peers.replace([a.peer, b.peer]);
    await until(() => one.told.splice(0).length === 1);
    const typing = (userId: string) =>
      ({ case: "typing", value: { conversationId: "c", userId } }) as const;
    a.session.push([moving], typing("old"));
    b.session.push([moving], typing("new"));
    await until(() => one.told.length === 2);
    assert.deepEqual(one.told.toSorted(), ["typing new", "typing old"]);
  });

  it("takes the word of its present instance alone for its being replaced", async () => {
    start(a.peer);
    const one = await cluster.attached(moving);
    cluster.peers.replace([a.peer, b.peer]);
    await until(() => one.told.length === 1);
    a.session.replace(one.number);
    await turns(10);
    assert.equal(one.ended, undefined);
    b.session.replace(one.number);
    await until(() => one.ended !== undefined);
    assert.equal(one.ended, CloseReason.REPLACED);
  });

  it("an instance is gone: its connections are moved at once", async () => {
    start(a.peer, b.peer);
    const one = await cluster.attached(moving);
    cluster.peers.replace([a.peer]);
    await until(() => one.told.length === 1);
    assert.deepEqual(one.told, ["resync"]);
    assert.equal(a.session.attached.get(one.number)?.again, true);
    cluster.peers.replace([]);
    assert.deepEqual(cluster.links.problems(), ["the gateway knows of no session instance"]);
  });

  it("an instance drains: its connections are moved, with an overlap", async () => {
    start(a.peer, b.peer);
    const one = await cluster.attached(moving);
    cluster.peers.replace([a.peer, draining(b.peer)]);
    await until(() => one.told.length === 1);
    assert.deepEqual([one.told, b.session.attached.size], [["resync"], 1]);
    await turns(5);
    cluster.clock.advance(5_000);
    await until(() => b.session.attached.size === 0);
    assert.equal(b.session.streams, 1);
  });

  it("who moves before it was ever attached is new there, and waits for the word from there", async () => {
    start(a.peer);
    a.session.acks = false;
    b.session.acks = false;
    const one = cluster.attach(moving);
    await until(() => a.session.attached.size === 1);
    cluster.peers.replace([a.peer, b.peer]);
    await until(() => b.session.attached.size === 1);
    assert.equal(b.session.attached.get(one.number)?.again, false);
    a.session.ack([one.number]);
    await turns(10);
    assert.deepEqual(one.told, [], "publishers who know the ring would not reach it");
    b.session.ack([one.number]);
    await until(() => one.told.length > 0);
    assert.deepEqual(one.told, ["attached"]);
  });

  it("who comes back within the overlap stays", async () => {
    start(a.peer);
    const one = await cluster.attached(moving);
    cluster.peers.replace([a.peer, b.peer]);
    await until(() => one.told.length === 1);
    await turns(5);
    cluster.clock.advance(3_000);
    cluster.peers.replace([a.peer, draining(b.peer)]);
    await until(() => one.told.length === 2);
    assert.deepEqual(one.told, ["resync", "resync"]);
    await turns(5);
    cluster.clock.advance(2_000);
    await turns(10);
    assert.deepEqual([a.session.attached.size, b.session.attached.size], [1, 1]);
    cluster.clock.advance(3_000);
    await until(() => b.session.attached.size === 0);
    assert.equal(a.session.attached.size, 1);
  });

  it("moves on before it has settled: every former instance is left in the end, none too early", async () => {
    const user = userWho({ a: "a", "a b": "b", "a b c": "c" });
    start(a.peer);
    const one = await cluster.attached(user);
    cluster.peers.replace([a.peer, b.peer]);
    await until(() => one.told.length === 1);
    await turns(5);
    cluster.clock.advance(4_000);
    cluster.peers.replace([a.peer, b.peer, c.peer]);
    await until(() => one.told.length === 2);
    await turns(5);
    cluster.clock.advance(4_999);
    await turns(10);
    const sizes = () => [a, b, c].map(({ session }) => session.attached.size);
    assert.deepEqual(sizes(), [1, 1, 1]);
    cluster.clock.advance(1);
    await until(() => sizes().join() === "0,0,1");
  });

  it("P6 a broken stream: all are announced again, and told to sync", async () => {
    start(a.peer);
    const one = await cluster.attached(moving);
    a.session.acks = false;
    const other = cluster.attach(staying);
    await until(() => a.session.attached.size === 2);
    a.session.break();
    await until(() => !cluster.links.up);
    assert.deepEqual(cluster.links.problems(), ["the gateway has no stream to session"]);
    await turns(5);
    cluster.clock.advance(50);
    await until(() => a.session.attached.size === 2 && a.session.streams === 2);
    assert.equal(a.session.attached.get(one.number)?.again, true);
    assert.equal(a.session.attached.get(other.number)?.again, false);
    assert.deepEqual([one.told, other.told], [[], []]);
    a.session.ack([one.number, other.number]);
    await until(() => other.told.length === 1);
    assert.deepEqual([one.told, other.told], [["resync"], ["attached"]]);
    a.session.ack([one.number]);
    await turns(10);
    assert.deepEqual(one.told, ["resync"], "told twice");
  });

  it("another life of the gateway: streams open again under its id", async () => {
    start(a.peer);
    const one = await cluster.attached(moving);
    const { id } = cluster.identity;
    assert.deepEqual(a.session.requests.map(({ bootId }) => bootId).filter(Boolean), [id]);
    cluster.identity.end(id);
    await until(() => !cluster.links.up);
    await turns(5);
    cluster.clock.advance(50);
    await until(() => one.told.length === 1);
    assert.deepEqual(one.told, ["resync"]);
    const opened = a.session.requests.filter(({ bootId }) => bootId !== "");
    assert.deepEqual(
      opened.map(({ gatewayId, bootId }) => [gatewayId, bootId]),
      [
        ["g1", id],
        ["g1", cluster.identity.id],
      ],
    );
  });

  it("one that ends is detached wherever it is", async () => {
    start(a.peer);
    const one = await cluster.attached(moving);
    cluster.peers.replace([a.peer, b.peer]);
    await until(() => one.told.length === 1);
    cluster.links.detach(one);
    await until(() => a.session.attached.size + b.session.attached.size === 0);
    cluster.peers.replace([a.peer]);
    await turns(10);
    assert.equal(a.session.attached.size, 0);
  });

  it("announces many in messages of a bounded size", async () => {
    start();
    const all = Array.from({ length: 2_500 }, () => cluster.attach(moving));
    cluster.peers.replace([a.peer]);
    await until(() => all.every(({ told }) => told.length === 1));
    cluster.peers.replace([a.peer, b.peer]);
    await until(() => b.session.attached.size === all.length);
    const sizes = [a, b].flatMap(({ session }) =>
      session.requests.map((one) => one.attached.length),
    );
    assert.ok(Math.max(...sizes) <= 1_000);
  });
});
