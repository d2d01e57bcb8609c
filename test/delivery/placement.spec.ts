import assert from "node:assert/strict";
import { Code } from "@connectrpc/connect";
import { Cluster, type Process } from "./cluster.ts";
import { until } from "./world.ts";
import { clusterPace, embeddedPace } from "../../delivery/index.ts";
import { unavailable } from "../../mesh/errors.ts";
import type { Cell } from "../../proto/gen/parley/storage/v1/storage_pb.ts";

/** Resolves the promise that a test holds something up with. */
function gate(): { opened: Promise<void>; open: () => void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("several delivery processes", () => {
  let cluster: Cluster;
  afterEach(() => cluster.close());

  const cells = (conversationId: string): Promise<Cell[]> =>
    cluster.store.cells(conversationId, 1, 1_000);

  async function two(): Promise<[Process, Process]> {
    cluster = new Cluster();
    const first = await cluster.add();
    await cluster.placed(first);
    const second = await cluster.add();
    await cluster.placed(first, second);
    return [first, second];
  }

  it("share the shards, and only one answers for each", async () => {
    const [first, second] = await two();
    const id = cluster.conversationAt(first);
    first.send(1, "alice", id);
    second.send(1, "alice", id);
    assert.deepEqual([await first.outcome(1), await second.outcome(1)], ["sent 1", "notOwner"]);
    await assert.rejects(second.client.createGroup({ userId: "alice", request: {} }), {
      code: Code.InvalidArgument,
    });
    assert.deepEqual([...first.delivery.problems(), ...second.delivery.problems()], []);
  });

  it("hand a shard over when one comes: what was taken is finished, the rest is the next owner's (P1, P3)", async () => {
    cluster = new Cluster();
    const first = await cluster.add();
    await cluster.placed(first);
    const ids = Array.from({ length: 40 }, (_, n) => `d:alice:bob${n}`);
    const held = gate();
    cluster.store.hooks.beforeCommit = () => held.opened;
    for (const [n, id] of ids.entries()) first.send(n, "alice", id);
    await turn();
    const second = await cluster.add();
    for (let n = 0; n < 20; n += 1) await turn();
    assert.equal(
      ids.filter((id) => cluster.ownerOf(id) === second.identity.id).length,
      0,
      "a shard with something under way stays",
    );
    for (const [n, id] of ids.entries()) first.send(100 + n, "alice", id);
    held.open();
    cluster.store.hooks = {};
    await cluster.placed(first, second);
    const mine = ids.filter((id) => cluster.ownerOf(id) === first.identity.id);
    assert.ok(mine.length > 5 && mine.length < 35, `${mine.length} of 40 stayed`);
    for (const [n, id] of ids.entries()) {
      assert.equal(await first.outcome(n), "sent 1");
      const stayed = mine.includes(id);
      assert.equal(await first.outcome(100 + n), stayed ? "sent 2" : "notOwner");
      if (stayed) continue;
      second.send(100 + n, "alice", id, true);
      assert.equal(await second.outcome(100 + n), "sent 2");
      const [one, other] = await cells(id);
      assert.ok(one !== undefined && other !== undefined && other.epoch > one.epoch);
    }
  });

  it("hand a shard over also where a conversation that they wait for cannot be opened", async () => {
    const [first, second] = await two();
    const id = cluster.conversationAt(first);
    const held = gate();
    let asked = false;
    const opened = async (): Promise<never> => {
      asked = true;
      await held.opened;
      throw unavailable("the store does not answer");
    };
    Object.assign(cluster.store, { opened });
    first.send(1, "alice", id);
    await until(() => asked || undefined);
    cluster.draining(first);
    for (let n = 0; n < 20; n += 1) await turn();
    assert.equal(cluster.ownerOf(id), first.identity.id, "a shard with something under way stays");
    held.open();
    assert.equal(await first.outcome(1), "refused");
    await cluster.placed(second);
  });

  it("take over from one that is gone, revoking it first: it acks nothing more and begins another life (P1)", async () => {
    const [first, second] = await two();
    const id = cluster.conversationAt(first);
    first.send(1, "alice", id);
    await first.outcome(1);
    const { id: before } = first.identity;
    cluster.gone(first);
    await cluster.placed(second);
    second.send(2, "alice", id);
    assert.equal(await second.outcome(2), "sent 2");
    first.send(3, "alice", id);
    assert.equal(await first.outcome(3), "notOwner");
    assert.equal((await cells(id)).length, 2);
    assert.equal(
      first.identity.id,
      before,
      "it hears of it when it writes or when its lease is lost",
    );
  });

  it("know nothing of a conversation any more when its shard comes back to them (P1, P3)", async () => {
    const [first, second] = await two();
    const id = cluster.conversationAt(first);
    first.send(1, "alice", id);
    await first.outcome(1);
    cluster.gone(first);
    await cluster.placed(second);
    second.send(2, "alice", id);
    assert.equal(await second.outcome(2), "sent 2");
    first.identity.end(first.identity.id);
    cluster.draining(second);
    await cluster.placed(first);
    first.send(3, "alice", id);
    assert.equal(await first.outcome(3), "sent 3");
  });

  it("claim from exactly the owner that they revoked: who came in between is revoked first, too (P1)", async () => {
    cluster = new Cluster({ shards: 1 });
    const { registry, store } = cluster;
    const before = await registry.replace(0, undefined, "one life");
    const done: string[] = [];
    const held = gate();
    const revoke = store.revoke.bind(store);
    store.revoke = async (incarnation) => {
      done.push(`revokes ${incarnation}`);
      await held.opened;
      await revoke(incarnation);
      done.push("revoked");
    };
    const claim = registry.replace.bind(registry);
    registry.replace = async (shard, expected, incarnation) => {
      const claimed = await claim(shard, expected, incarnation);
      done.push(
        `${claimed === undefined ? "does not claim" : "claims"} from ${expected?.incarnation}`,
      );
      return claimed;
    };
    const process = await cluster.add();
    await until(() => done.length > 0);
    await claim(0, before, "other life");
    held.open();
    await cluster.placed(process);
    assert.deepEqual(done, [
      "revokes one life",
      "revoked",
      "does not claim from one life",
      "revokes other life",
      "revoked",
      "claims from other life",
    ]);
  });

  it("find out on their next write that they were revoked, however late they hear of anything (P1)", async () => {
    const [first, second] = await two();
    const id = cluster.conversationAt(first);
    const { id: before } = first.identity;
    await cluster.store.revoke(before);
    first.send(1, "alice", id);
    assert.equal(await first.outcome(1), "notOwner");
    assert.notEqual(first.identity.id, before);
    await until(() => first.delivery.problems().length === 0);
    cluster.deliveries.replace(cluster.deliveries.present.filter((peer) => peer.id !== before));
    await cluster.placed(first, second);
    const owner = cluster.ownerOf(id) === first.identity.id ? first : second;
    owner.send(2, "alice", id, true);
    assert.equal(await owner.outcome(2), "sent 1");
  });

  it("give everything away when they drain", async () => {
    const [first, second] = await two();
    const id = cluster.conversationAt(first);
    first.send(1, "alice", id);
    await first.outcome(1);
    cluster.draining(first);
    await first.delivery.drain?.(60_000);
    await cluster.placed(second);
    second.send(2, "alice", id);
    assert.equal(await second.outcome(2), "sent 2");
  });

  it("take nothing while the outcome of a hand-over is unknown, and serve again when it failed (P1)", async () => {
    const [first, second] = await two();
    const id = cluster.conversationAt(first);
    cluster.registry.fails = "before";
    cluster.draining(first);
    for (let n = 0; n < 20; n += 1) await turn();
    first.send(1, "alice", id);
    assert.equal(await first.outcome(1), "notOwner");
    cluster.staying();
    cluster.registry.fails = undefined;
    await until(() => {
      cluster.clock.advance(200);
      return first.delivery.problems().length === 0 && cluster.registry.owner(0) !== undefined;
    });
    await cluster.placed(first, second);
    first.send(2, "alice", id, true);
    assert.equal(await first.outcome(2), "sent 1");
    assert.equal(cluster.ownerOf(id), first.identity.id);
  });

  it("serve a shard on that the registry cannot be told of any more, in the order in which it was written to (P4, P10)", async () => {
    const [first, second] = await two();
    const id = cluster.conversationAt(first);
    const held = gate();
    cluster.store.hooks.beforeCommit = () => held.opened;
    const send = (operationId: number, refusalsSeen: number): void =>
      first.send(operationId, "alice", id, false, 0n, refusalsSeen);
    send(1, 1);
    await turn();
    cluster.draining(first);
    for (let n = 0; n < 20; n += 1) await turn();
    send(2, 1);
    assert.equal(await first.outcome(2), "notOwner");
    const { registry } = cluster;
    const refresh = registry.refresh.bind(registry);
    const away = gate();
    registry.refresh = async () => {
      await away.opened;
      throw unavailable("the registry does not answer");
    };
    held.open();
    assert.equal(await first.outcome(1), "sent 1");
    for (let n = 0; n < 20; n += 1) await turn();
    cluster.clock.advance(1_000);
    for (let n = 0; n < 20; n += 1) await turn();
    send(3, 1);
    assert.equal(await first.outcome(3), "notOwner", "it was on its way when 2 was refused");
    send(2, 3);
    assert.equal(await first.outcome(2), "sent 2");
    registry.refresh = refresh;
    away.open();
    for (let n = 0; n < 20; n += 1) await turn();
    cluster.clock.advance(1_000);
    await cluster.placed(second);
  });

  it("take nothing that was routed under an epoch before, once a shard is theirs anew: it would overtake what was refused (P4)", async () => {
    const [first, second] = await two();
    const id = cluster.conversationAt(first);
    const before = cluster.epochOf(id);
    cluster.registry.fails = "before";
    cluster.draining(first);
    for (let n = 0; n < 20; n += 1) await turn();
    first.send(1, "alice", id, false, before);
    assert.equal(await first.outcome(1), "notOwner");
    cluster.staying();
    cluster.registry.fails = undefined;
    await until(() => {
      cluster.clock.advance(200);
      return cluster.ownerOf(id) === first.identity.id && cluster.epochOf(id) > before;
    });
    await cluster.placed(first, second);
    first.send(2, "alice", id, false, before);
    assert.equal(await first.outcome(2), "notOwner", "it was on its way when 1 was refused");
    const now = cluster.epochOf(id);
    first.send(1, "alice", id, true, now);
    first.send(2, "alice", id, true, now);
    assert.deepEqual([await first.outcome(1), await first.outcome(2)], ["sent 1", "sent 2"]);
    first.send(3, "alice", id, false, now + 1n);
    assert.equal(await first.outcome(3), "notOwner", "it does not know of that epoch yet");
    first.send(4, "alice", id);
    assert.equal(await first.outcome(4), "sent 3", "a gateway that does not say is trusted");
  });

  it("do not write what was built on a shard that is lost meanwhile (P1, P2)", async () => {
    const [first, second] = await two();
    const id = cluster.conversationAt(first);
    first.send(1, "alice", id);
    await first.outcome(1);
    cluster.draining(first);
    await cluster.placed(second);
    cluster.staying();
    await cluster.placed(first, second);
    // Loaded anew: its memory begins behind the first.
    first.send(3, "alice", id);
    assert.equal(await first.outcome(3), "sent 2");
    const held = gate();
    const cellsNow = cluster.store.cells.bind(cluster.store);
    cluster.store.cells = async (...asked) => {
      const found = await cellsNow(...asked);
      await held.opened;
      return found;
    };
    first.send(2, "alice", id, true);
    for (let n = 0; n < 20; n += 1) await turn();
    cluster.gone(first);
    await cluster.placed(second);
    held.open();
    assert.equal(await first.outcome(2), "notOwner");
    assert.equal((await cells(id)).length, 2);
  });
});

describe("delivery's pace", () => {
  let cluster: Cluster;
  afterEach(() => cluster.close());

  it("has batches of different conversations under way together, and of one conversation one (P4)", async () => {
    cluster = new Cluster();
    const process = await cluster.add();
    await cluster.placed(process);
    const held = gate();
    const begun: string[] = [];
    cluster.store.hooks.beforeCommit = async ({ writes }) => {
      begun.push(
        writes.map(({ conversationId, cells }) => `${conversationId} ${cells.length}`).join(),
      );
      if (begun.length === 1) await held.opened;
    };
    process.send(1, "alice", "d:alice:bob");
    await until(() => begun.length === 1);
    process.send(2, "alice", "d:alice:bob");
    process.send(3, "alice", "d:alice:carol");
    for (let n = 0; n < 20; n += 1) await turn();
    assert.equal(begun.length, 1, "it waits for the one before, for a while");
    cluster.clock.advance(clusterPace.spacingMs);
    assert.equal(await process.outcome(3), "sent 1");
    process.send(4, "alice", "d:alice:bob");
    held.open();
    assert.deepEqual([await process.outcome(1), await process.outcome(2)], ["sent 1", "sent 2"]);
    assert.deepEqual(begun, ["d:alice:bob 1", "d:alice:carol 1", "d:alice:bob 2"]);
  });

  it("lets moves of cursors wait for company, and not for longer than they may", async () => {
    cluster = new Cluster();
    const process = await cluster.add();
    await cluster.placed(process);
    process.send(1, "alice", "d:alice:bob");
    await process.outcome(1);
    const written: number[] = [];
    cluster.store.hooks.beforeCommit = ({ writes }) => {
      for (const { members } of writes) written.push(members.length);
      return Promise.resolve();
    };
    const moveCursor = (operationId: number, readSeq: number): void => {
      const operation = { case: "moveCursor" as const, value: { deliveredSeq: 1, readSeq } };
      process.submit({ operationId, userId: "bob", conversationId: "d:alice:bob", operation });
    };
    moveCursor(2, 0);
    for (let n = 0; n < 20; n += 1) await turn();
    assert.deepEqual(written, [], "it waits");
    cluster.clock.advance(100);
    assert.equal(await process.outcome(2), "moved");
    moveCursor(3, 1);
    for (let n = 0; n < 5; n += 1) await turn();
    process.send(4, "alice", "d:alice:bob");
    assert.deepEqual([await process.outcome(4), await process.outcome(3)], ["sent 2", "moved"]);
    assert.deepEqual(written, [1, 2], "the second went with the message");
  });

  it("makes one batch of moves of cursors that waited for about as long", async () => {
    cluster = new Cluster();
    const process = await cluster.add();
    await cluster.placed(process);
    const peers = ["bob", "carol", "dave"];
    for (const [n, peer] of peers.entries()) {
      process.send(n, "alice", `d:alice:${peer}`);
      assert.equal(await process.outcome(n), "sent 1");
    }
    const written: string[] = [];
    cluster.store.hooks.beforeCommit = ({ writes }) => {
      written.push(writes.map(({ conversationId }) => conversationId).join());
      return Promise.resolve();
    };
    for (const [n, userId] of peers.entries()) {
      const value = { deliveredSeq: 1, readSeq: 0 };
      const operation = { case: "moveCursor" as const, value };
      const conversationId = `d:alice:${userId}`;
      process.submit({ operationId: 10 + n, userId, conversationId, operation });
      for (let turns = 0; turns < 5; turns += 1) await turn();
      cluster.clock.advance(n === 0 ? 40 : 20);
    }
    cluster.clock.advance(20);
    assert.equal(await process.outcome(11), "moved");
    assert.deepEqual(written, ["d:alice:bob,d:alice:carol"]);
    cluster.clock.advance(60);
    assert.equal(await process.outcome(12), "moved");
  });
});

describe("delivery's fan-out over several session instances", () => {
  let cluster: Cluster;
  afterEach(() => cluster.close());
  const users = Array.from({ length: 30 }, (_, n) => `u${n}`);

  async function talk(process: Process): Promise<void> {
    for (const [n, user] of users.entries()) process.send(n, user, `d:${user}:zed`);
    for (const n of users.keys()) await process.outcome(n);
  }

  it("publishes to each user's instance, once", async () => {
    cluster = new Cluster({ sessions: 2 });
    const process = await cluster.add();
    await cluster.placed(process);
    await talk(process);
    const [one, other] = cluster.session;
    assert.ok(one !== undefined && other !== undefined);
    await until(() => one.told("record").length + other.told("record").length === 60);
    const both = [...one.told("record"), ...other.told("record")].filter((user) => user !== "zed");
    assert.deepEqual(both.toSorted(), users.toSorted());
    assert.ok(one.told("record").length > 5 && other.told("record").length > 5);
    assert.ok(!(one.told("record").includes("zed") && other.told("record").includes("zed")));
  });

  it("tells those who move to another instance to sync, and nobody else (P6)", async () => {
    cluster = new Cluster();
    const process = await cluster.add();
    await cluster.placed(process);
    await talk(process);
    const added = cluster.addSession();
    await until(() => added.told("resync").length > 0);
    process.send(100, "u0", "d:u0:zed");
    await process.outcome(100);
    const moved = added.told("resync");
    assert.deepEqual(cluster.session[0]?.told("resync"), []);
    assert.ok(moved.length > 5 && moved.length < 25, `${moved.length} of 31 moved`);
    for (const [n, user] of users.entries()) process.send(200 + n, user, `d:${user}:zed`);
    for (const n of users.keys()) await process.outcome(200 + n);
    await until(() => new Set(added.told("record")).size === moved.length);
    assert.deepEqual([...new Set(added.told("record"))].toSorted(), moved.toSorted());
  });

  it("tells everybody at an instance to sync when the stream there broke and is back (P6)", async () => {
    cluster = new Cluster();
    const process = await cluster.add();
    await cluster.placed(process);
    await talk(process);
    const [session] = cluster.session;
    assert.ok(session !== undefined);
    await until(() => session.told("record").length === 60);
    const clientId = new Uint8Array(16);
    const request = { clientId, title: "Lunch", memberIds: ["former"] };
    const { response } = await process.client.createGroup({ userId: "zed", request });
    const { conversationId = "" } = response?.conversation ?? {};
    const removal = { clientId: clientId.with(0, 1), conversationId, removeMemberIds: ["former"] };
    await process.client.updateGroup({ userId: "zed", request: removal });
    assert.deepEqual(session.told("resync"), []);
    session.break();
    for (let n = 0; n < 20; n += 1) await turn();
    cluster.clock.advance(10_000);
    await until(() => session.told("resync").length > 0);
    const all = [...users, "zed", "former"];
    assert.deepEqual(session.told("resync").toSorted(), all.toSorted());
  });

  it("says which commits are indexed, once they are (P6)", async () => {
    cluster = new Cluster();
    const process = await cluster.add();
    await cluster.placed(process);
    const held = gate();
    cluster.store.hooks.beforeIndex = () => held.opened;
    process.send(1, "alice", "d:alice:bob");
    const [session] = cluster.session;
    assert.ok(session !== undefined);
    await until(() => session.commits.length > 0);
    for (let n = 0; n < 20; n += 1) await turn();
    assert.deepEqual(session.commits, ["published"]);
    assert.equal(process.outcomes.length, 0);
    held.open();
    assert.equal(await process.outcome(1), "sent 1");
    await until(() => session.commits.length > 1);
    assert.deepEqual(session.commits, ["published", "indexed"]);
  });

  it("names no commit where records are indexed as soon as they are committed", async () => {
    cluster = new Cluster({ pace: embeddedPace });
    const process = await cluster.add();
    await cluster.placed(process);
    await talk(process);
    assert.deepEqual(cluster.session[0]?.commits, []);
  });
});
