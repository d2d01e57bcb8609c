/** What every directory must keep: the same cases for the one in memory and for etcd. */
import { Code, ConnectError } from "@connectrpc/connect";
import assert from "node:assert/strict";
import type { Directory, Instance, ServiceName } from "../../mesh/directory.ts";

/** Where directories of several processes meet. */
export interface DirectoryWorld {
  /** How many there are in it. */
  readonly shards: number;
  readonly ttlMs: number;
  /** Milliseconds on the clock that the leases go by. */
  now(): number;
  /** The directory of one more process. */
  open(): Promise<Directory>;
  cut(directory: Directory): void;
  heal(directory: Directory): void;
  /** Ends the lease of an instance from outside. */
  endLease(instance: Instance): Promise<void>;
  /** Lets time go by until the answer is true; fails where it never is. */
  until(what: string, ask: () => boolean): Promise<void>;
  close(): Promise<void>;
}

let made = 0;

export function instance(more: Partial<Instance> = {}): Instance {
  made += 1;
  return {
    service: "delivery",
    id: `life-${String(made).padStart(6, "0")}`,
    name: "",
    address: `127.0.0.1:${made}`,
    region: "eu",
    url: "",
    draining: false,
    ...more,
  };
}

export const ids = (directory: Directory, service: ServiceName = "delivery"): string[] =>
  directory.instances(service).present.map(({ id }) => id);

/** Whoever must not lose anything. */
export const never = (): void => assert.fail("a lease was lost");

const refused = (code: Code) => (error: unknown) => {
  assert(error instanceof ConnectError, String(error));
  assert.equal(error.code, code, error.message);
  return true;
};

export function directorySuite(name: string, build: () => Promise<DirectoryWorld>): void {
  describe(`a directory: ${name}`, () => {
    let world: DirectoryWorld;

    beforeEach(async () => {
      world = await build();
    });

    afterEach(() => world.close());

    describe("instances", () => instanceCases(() => world));
    describe("names", () => nameCases(() => world));
    describe("leases", () => leaseCases(() => world));
    describe("shards", () => shardCases(() => world));
  });
}

function instanceCases(world: () => DirectoryWorld): void {
  it("shows what is announced to all, as it was said, in order of id", async () => {
    const [one, other] = [await world().open(), await world().open()];
    const before = other.instances("gateway").present;
    const first = instance({ service: "gateway", id: "b", url: "https://eu.test", name: "g 1/2" });
    await one.join(first, never);
    await other.join(instance({ service: "gateway", id: "a" }), never);
    await one.join(instance({ service: "session", id: "0" }), never);
    for (const directory of [one, other]) {
      await world().until("all three", () => ids(directory, "session").length === 1);
      assert.deepEqual(ids(directory, "gateway"), ["a", "b"]);
      assert.deepEqual(directory.instances("gateway").present[1], first);
      assert.deepEqual(directory.problems(), []);
    }
    assert.deepEqual(before, []);
  });

  it("knows what is there when it opens", async () => {
    const one = await world().open();
    const there = instance();
    await one.join(there, never);
    await one.shards.replace(2, undefined, there.id);
    const other = await world().open();
    assert.deepEqual(other.instances("delivery").present, [there]);
    assert.equal(other.shards.owner(2)?.incarnation, there.id);
  });

  it("tells of each change those who watch, until they leave", async () => {
    const [one, other] = [await world().open(), await world().open()];
    const seen: string[][] = [];
    const stop = other.instances("delivery").watch(() => seen.push(ids(other)));
    const unheard: unknown[] = [];
    other.instances("session").watch(() => unheard.push(0));
    const [first, second] = [instance(), instance()];
    const changes = [[first.id], [first.id, second.id], [second.id]];
    // One after the other: changes that follow each other at once may be told as one.
    const membership = await one.join(first, never);
    await world().until("the first", () => seen.length === 1);
    await one.join(second, never);
    await world().until("the second", () => seen.length === 2);
    await membership.leave();
    await world().until("its leaving", () => seen.length === 3);
    assert.deepEqual(seen, changes);
    stop();
    await one.join(instance(), never);
    await world().until("another", () => ids(other).length === 2);
    assert.deepEqual(seen, changes);
    assert.deepEqual(unheard, []);
  });

  it("tells of an instance that changes, and keeps the rest of what it said", async () => {
    const [one, other] = [await world().open(), await world().open()];
    const said = instance({ service: "gateway", name: "g", url: "https://a.test" });
    const membership = await one.join(said, never);
    await Promise.all([
      membership.update({ draining: true }),
      membership.update({ pinned: [3, 70] }),
      membership.update({ url: "https://b.test" }),
    ]);
    const expected = { ...said, draining: true, pinned: [3, 70], url: "https://b.test" };
    const [present] = [() => other.instances("gateway").present[0]];
    await world().until("all changes", () => present()?.url === expected.url);
    assert.deepEqual(present(), expected);
  });
}

function nameCases(world: () => DirectoryWorld): void {
  it("are had by one live instance of a service", async () => {
    const [one, other] = [await world().open(), await world().open()];
    const membership = await one.join(instance({ name: "1" }), never);
    await assert.rejects(other.join(instance({ name: "1" }), never), refused(Code.AlreadyExists));
    await other.join(instance({ service: "gateway", name: "1" }), never);
    await other.join(instance(), never);
    await other.join(instance(), never);
    await world().until("what was let in", () => ids(other).length === 3);
    await membership.leave();
    await other.join(instance({ name: "1" }), never);
  });

  it("are free again when the lease of whoever died has ended", async () => {
    const [one, other] = [await world().open(), await world().open()];
    await one.join(instance({ name: "1" }), never);
    await world().until("the first", () => ids(other).length === 1);
    await one.close();
    await world().until("its end", () => ids(other).length === 0);
    await other.join(instance({ name: "1" }), never);
  });
}

function leaseCases(world: () => DirectoryWorld): void {
  it("end at once by leaving, and are not lost then", async () => {
    const [one, other] = [await world().open(), await world().open()];
    const membership = await one.join(instance(), never);
    await world().until("it", () => ids(other).length === 1);
    assert.equal(membership.held, true);
    const leftMs = world().now();
    await membership.leave();
    assert.equal(membership.held, false);
    await world().until("its end", () => ids(other).length === 0);
    assert.ok(world().now() - leftMs < world().ttlMs / 2);
    await assert.rejects(membership.update({ draining: true }), refused(Code.FailedPrecondition));
  });

  it("outlive their holder by a time to live, not more, not less", async () => {
    const [one, other] = [await world().open(), await world().open()];
    await one.join(instance(), never);
    await world().until("it", () => ids(other).length === 1);
    const closedMs = world().now();
    await one.close();
    assert.deepEqual(ids(other).length, 1);
    await world().until("its end", () => ids(other).length === 0);
    const tookMs = world().now() - closedMs;
    assert.ok(tookMs > world().ttlMs / 2, `after ${tookMs} ms`);
    assert.ok(tookMs < world().ttlMs + 2_000, `after ${tookMs} ms`);
  });

  it("are kept alive as long as their holder lives", async () => {
    const [one, other] = [await world().open(), await world().open()];
    const membership = await one.join(instance(), never);
    await world().until("it", () => ids(other).length === 1);
    const beganMs = world().now();
    await world().until("three times to live", () => {
      assert.equal(membership.held, true);
      assert.equal(ids(other).length, 1);
      return world().now() - beganMs > 3 * world().ttlMs;
    });
  });

  it("are told as lost, once, when somebody else ended them", async () => {
    const [one, other] = [await world().open(), await world().open()];
    let lost = 0;
    const said = instance({ name: "1" });
    const membership = await one.join(said, () => (lost += 1));
    await world().until("it", () => ids(other).length === 1);
    await world().endLease(said);
    await world().until("the loss", () => lost > 0);
    assert.equal(membership.held, false);
    await assert.rejects(membership.update({ draining: true }), refused(Code.FailedPrecondition));
    await world().until("its end", () => ids(one).length + ids(other).length === 0);
    await one.join(instance({ name: "1" }), never);
    await world().until("another", () => ids(one).length + ids(other).length === 2);
    assert.equal(lost, 1);
  });

  it("live on while their holder is cut off for less than a time to live (P10)", async () => {
    const [one, other] = [await world().open(), await world().open()];
    const membership = await one.join(instance(), never);
    const leaving = await other.join(instance(), never);
    await world().until("both", () => ids(one).length === 2 && ids(other).length === 2);
    const before = one.instances("delivery").present;
    const cutMs = world().now();
    world().cut(one);
    await world().until("it is noticed", () => one.problems().length > 0);
    await leaving.leave();
    const [came] = [instance()];
    await other.join(came, never);
    await other.shards.replace(1, undefined, came.id);
    await world().until("a while", () => world().now() - cutMs > world().ttlMs / 3);
    assert.equal(one.instances("delivery").present, before);
    assert.equal(one.shards.owner(1), undefined);
    world().heal(one);
    await world().until("what it missed", () => ids(one).includes(came.id));
    assert.equal(ids(one).length, 2);
    await world().until("the shard", () => one.shards.owner(1)?.incarnation === came.id);
    const healedMs = world().now();
    await world().until("a time to live", () => world().now() - healedMs > world().ttlMs);
    assert.equal(membership.held, true);
    assert.equal(ids(other).length, 2);
    assert.deepEqual(one.problems(), []);
  });

  it("are not held when their end is possible, and lost when it is known", async () => {
    const [one, other] = [await world().open(), await world().open()];
    let lost = 0;
    const membership = await one.join(instance(), () => (lost += 1));
    await world().until("it", () => ids(other).length === 1);
    const joinedMs = world().now();
    await world().until("a renewal", () => world().now() - joinedMs > world().ttlMs / 2);
    world().cut(one);
    await world().until("it may be over", () => {
      if (membership.held) assert.equal(ids(other).length, 1, "over for the others, held here");
      return !membership.held;
    });
    await world().until("it is over", () => ids(other).length === 0);
    assert.equal(ids(one).length, 1);
    assert.equal(lost, 0);
    world().heal(one);
    await world().until("the loss", () => lost > 0);
    await world().until("it is seen", () => ids(one).length === 0);
    assert.equal(membership.held, false);
    assert.equal(lost, 1);
  });

  it("cannot be begun, changed or ended while the directory cannot be reached", async () => {
    const one = await world().open();
    const membership = await one.join(instance(), never);
    world().cut(one);
    const away = refused(Code.Unavailable);
    await Promise.all([
      assert.rejects(one.join(instance(), never), away),
      assert.rejects(membership.update({ draining: true }), away),
      assert.rejects(one.shards.replace(0, undefined, "life"), away),
      assert.rejects(one.shards.refresh(0), away),
    ]);
    await assert.rejects(membership.leave(), away);
  });
}

function shardCases(world: () => DirectoryWorld): void {
  it("are as many for everybody, and nobody's at first", async () => {
    const { shards } = await world().open();
    assert.equal(shards.count, world().shards);
    for (let shard = 0; shard < shards.count; shard += 1)
      assert.equal(shards.owner(shard), undefined);
    assert.equal(await shards.refresh(0), undefined);
  });

  it("go from exactly the owner that was expected to the next, each time by a higher epoch", async () => {
    const [one, other] = [await world().open(), await world().open()];
    const first = await one.shards.replace(3, undefined, "a");
    assert(first !== undefined);
    assert.equal(first.incarnation, "a");
    assert.deepEqual(one.shards.owner(3), first);
    assert.equal(await other.shards.replace(3, undefined, "b"), undefined);
    assert.equal(await other.shards.replace(3, undefined, "a"), undefined);
    const second = await other.shards.replace(3, first, "b");
    assert(second !== undefined);
    assert.deepEqual(other.shards.owner(3), second);
    assert.ok(second.epoch > first.epoch);
    assert.equal(await one.shards.replace(3, first, "c"), undefined);
    const third = await one.shards.replace(3, second, "a");
    assert(third !== undefined);
    assert.ok(third.epoch > second.epoch);
    assert.deepEqual(await other.shards.refresh(3), third);
    assert.deepEqual(other.shards.owner(3), third);
  });

  it("go to one of all that want them at once", async () => {
    const directories = await Promise.all([world().open(), world().open(), world().open()]);
    const won = await Promise.all(
      directories.map(({ shards }, at) => shards.replace(0, undefined, `life-${at}`)),
    );
    const winners = won.filter((owner) => owner !== undefined);
    assert.equal(winners.length, 1);
    for (const { shards } of directories) {
      await world().until("the owner", () => shards.owner(0) !== undefined);
      assert.deepEqual(shards.owner(0), winners[0]);
    }
  });

  it("tell those who watch of each new owner, also after a time away, and never of an older one", async () => {
    const [one, other] = [await world().open(), await world().open()];
    const epochs: bigint[] = [];
    const stop = other.shards.watch((shard) => {
      if (shard === 5) epochs.push(other.shards.owner(5)?.epoch ?? 0n);
    });
    const first = await one.shards.replace(5, undefined, "a");
    await world().until("the first", () => epochs.length === 1);
    world().cut(other);
    const second = await one.shards.replace(5, first, "b");
    const third = await one.shards.replace(5, second, "c");
    world().heal(other);
    await world().until("the last", () => epochs.at(-1) === third?.epoch);
    for (const [at, epoch] of epochs.entries()) assert.ok(epoch > (epochs[at - 1] ?? 0n));
    stop();
    const fourth = await one.shards.replace(5, third, "d");
    await world().until("one more", () => other.shards.owner(5)?.epoch === fourth?.epoch);
    assert.equal(epochs.at(-1), third?.epoch);
  });

  it("keep their owner when it is gone, so that whoever comes next knows whom to revoke", async () => {
    const [one, other] = [await world().open(), await world().open()];
    const there = instance();
    const membership = await one.join(there, never);
    const owner = await one.shards.replace(6, undefined, there.id);
    await membership.leave();
    await world().until("its end", () => ids(other).length === 0);
    assert.deepEqual(await other.shards.refresh(6), owner);
  });
}
