/** The directory on real etcd: the suite of all directories, and what only real members can do to it. */
import { Code, ConnectError } from "@connectrpc/connect";
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { systemClock } from "../../mesh/clock.ts";
import type { Directory, Instance } from "../../mesh/directory.ts";
import { openEtcdDirectory } from "../../mesh/etcd/directory.ts";
import type { EtcdConfig, EtcdOpening } from "../../mesh/etcd/directory.ts";
import { Keys } from "../../mesh/etcd/keys.ts";
import { Lease } from "../../mesh/etcd/lease.ts";
import { Members } from "../../mesh/etcd/members.ts";
import { createLog } from "../../mesh/log.ts";
import { newId, systemRandom } from "../../mesh/random.ts";
import type { Random } from "../../mesh/random.ts";
import { directorySuite, ids, instance, never } from "../conformance/directory.ts";
import type { DirectoryWorld } from "../conformance/directory.ts";
import { root } from "../support/tree.ts";
import { asked, within } from "../support/within.ts";
import { CutLine } from "./servers/cut-line.ts";
import { callEtcd, Etcd, whyNoEtcd } from "./servers/etcd.ts";

const shards = 8;
const leaseSeconds = 3;
const ttlMs = leaseSeconds * 1_000;
const mostMs = 30_000;

/** The same member is the first for all that ask it. */
const first: Random = { unit: () => 0, bytes: (length) => systemRandom.bytes(length) };

const until = async (what: string, ask: () => boolean): Promise<void> => {
  await asked(mostMs, what, () => Promise.resolve(ask() ? true : undefined));
};

const base64 = (bytes: Uint8Array | string): string => Buffer.from(bytes).toString("base64");

const newPrefix = (): string => `/test-${newId(systemRandom)}`;

async function leaseOf(endpoint: string, prefix: string, of: Instance): Promise<string> {
  const key = base64(new Keys(prefix).instance(of));
  const found = (await callEtcd(endpoint, "kv/range", { key })) as { kvs: { lease: string }[] };
  return found.kvs[0]?.lease ?? "";
}

describe("etcd", function () {
  this.timeout(120_000);
  let etcd: Etcd;
  const opened: Directory[] = [];
  const lines: CutLine[] = [];

  before(async function () {
    this.timeout(30 * 60_000);
    const reason = await whyNoEtcd();
    if (reason !== undefined) {
      console.log(`    skipped: ${reason}`);
      this.skip();
    }
    etcd = await Etcd.start(["127.20.0.1", "127.20.0.2", "127.20.0.3"]);
  });

  after(() => etcd?.remove());

  afterEach(async () => {
    await Promise.all(opened.splice(0).map((directory) => directory.close()));
    await Promise.all(lines.splice(0).map((line) => line.close()));
  });

  /** What a test says of it; the rest is as it is for all. */
  async function open(
    more: Partial<EtcdConfig & EtcdOpening> & { random?: Random; said?: string[] } = {},
  ): Promise<Directory> {
    const { random = systemRandom, said = [], signal, ...config } = more;
    const log = createLog({ level: "info", to: { write: (line) => void said.push(line) } });
    const directory = await openEtcdDirectory(
      { endpoints: etcd.endpoints, prefix: newPrefix(), shards, leaseSeconds, ...config },
      { clock: systemClock, random, log },
      signal === undefined ? {} : { signal },
    );
    opened.push(directory);
    return directory;
  }

  async function cutLine(target: string): Promise<CutLine> {
    const line = await CutLine.open(target);
    lines.push(line);
    return line;
  }

  directorySuite("etcd", async () => {
    const prefix = newPrefix();
    const endpoint = etcd.endpoints[0] ?? "";
    const ways = new Map<Directory, CutLine>();
    const world: DirectoryWorld = {
      shards,
      ttlMs,
      now: () => performance.now(),
      async open() {
        const line = await cutLine(endpoint);
        const directory = await open({ endpoints: [line.endpoint], prefix });
        ways.set(directory, line);
        return directory;
      },
      cut: (directory) => ways.get(directory)?.cut(),
      heal: (directory) => ways.get(directory)?.heal(),
      async endLease(of) {
        await callEtcd(endpoint, "lease/revoke", { ID: await leaseOf(endpoint, prefix, of) });
      },
      until,
      close: () => Promise.resolve(),
    };
    return world;
  });

  describe("what it has", () => {
    it("another number of shards is an error that says both", async () => {
      const prefix = newPrefix();
      await open({ prefix });
      await assert.rejects(open({ prefix, shards: 9 }), (error) => {
        assert(error instanceof ConnectError);
        assert.equal(error.code, Code.FailedPrecondition);
        assert.match(error.message, /8 shards.* 9/);
        return true;
      });
      await open({ prefix: `${prefix}/`, shards: 8 });
    });

    it("what nobody of ours wrote is not heeded", async () => {
      const [endpoint = ""] = etcd.endpoints;
      const prefix = newPrefix();
      const keys = new Keys(prefix);
      const directory = await open({ prefix });
      const strange = ["instances/delivery/%", "instances/other/a", "shards/99", "shards/x", "x"];
      for (const key of strange) {
        await callEtcd(endpoint, "kv/put", { key: base64(keys.prefix + key), value: "" });
      }
      const broken = base64(keys.instance({ service: "delivery", id: "broken" }));
      await callEtcd(endpoint, "kv/put", { key: broken, value: base64("{") });
      const older = instance({ region: "", name: "", address: "127.0.0.1:1" });
      const value = JSON.stringify({ address: older.address, later: 1 });
      const key = base64(keys.instance(older));
      await callEtcd(endpoint, "kv/put", { key, value: base64(value) });
      await until("what is one", () => ids(directory).length > 0);
      assert.deepEqual(directory.instances("delivery").present, [older]);
      assert.deepEqual((await open({ prefix })).instances("delivery").present, [older]);
    });

    it("an instance whose key somebody deletes is lost, and its name free", async () => {
      const [endpoint = ""] = etcd.endpoints;
      const prefix = newPrefix();
      const directory = await open({ prefix });
      let lost = 0;
      const said = instance({ name: "1" });
      await directory.join(said, () => (lost += 1));
      const key = base64(new Keys(prefix).instance(said));
      await callEtcd(endpoint, "kv/deleterange", { key });
      await until("the loss", () => lost > 0);
      await asked(mostMs, "the name", async () =>
        directory.join(instance({ name: "1" }), never).catch(() => undefined),
      );
      assert.equal(lost, 1);
    });

    it("a lease that is revoked is gone by the next renewal, whatever the watch hears", async () => {
      const [endpoint = ""] = etcd.endpoints;
      const granted = (await callEtcd(endpoint, "lease/grant", { TTL: "2" })) as { ID: string };
      const log = createLog({ level: "silent" });
      const surroundings = { clock: systemClock, random: systemRandom, log };
      const members = new Members(etcd.endpoints, surroundings);
      let gone = 0;
      const lease = new Lease(
        { ...surroundings, members },
        { id: BigInt(granted.ID), ttlMs: 2_000, askedMs: systemClock.monotonic() },
        () => (gone += 1),
      );
      const beganMs = performance.now();
      await until("a time to live", () => performance.now() - beganMs > 2_500);
      assert.deepEqual([lease.held, gone], [true, 0]);
      await callEtcd(endpoint, "lease/revoke", { ID: granted.ID });
      await until("its end", () => gone > 0);
      assert.equal(lease.held, false);
      await lease.close();
      members.close();
    });

    it("changes are seen after a compaction of what was missed", async () => {
      const [endpoint = ""] = etcd.endpoints;
      const prefix = newPrefix();
      const line = await cutLine(endpoint);
      const one = await open({ prefix, endpoints: [line.endpoint] });
      const other = await open({ prefix });
      const membership = await other.join(instance(), never);
      await other.join(instance(), never);
      await until("both", () => ids(one).length === 2);
      line.cut();
      await membership.leave();
      const came = instance();
      await other.join(came, never);
      const owner = await other.shards.replace(0, undefined, came.id);
      const last = await other.shards.replace(0, owner, "next");
      const revision = String(last?.epoch ?? 0n);
      await callEtcd(endpoint, "kv/compaction", { revision, physical: true });
      line.heal();
      await until("what it missed", () => ids(one).includes(came.id));
      const fresh = await open({ prefix });
      assert.deepEqual(one.instances("delivery").present, fresh.instances("delivery").present);
      assert.deepEqual(one.shards.owner(0), last);
      await other.join(instance(), never);
      await until("what comes then", () => ids(one).length === 3);
    });
  });

  describe("its members", () => {
    it("go on without a leader that is killed: no lease is lost, no change is missed", async () => {
      const prefix = newPrefix();
      const directories = await Promise.all([1, 2, 3].map(() => open({ prefix })));
      const [one, other, third] = directories;
      assert(one && other && third);
      for (const directory of directories) await directory.join(instance(), never);
      await until("all", () => directories.every((directory) => ids(directory).length === 3));
      const leader = await etcd.leader();
      await etcd.kill(leader);
      try {
        const came = instance();
        await asked(mostMs, "a new instance", async () =>
          one.join(came, never).catch((error: unknown) => {
            assert.equal(ConnectError.from(error).code, Code.Unavailable);
            return undefined;
          }),
        );
        await until("it", () => directories.every((directory) => ids(directory).includes(came.id)));
        const owner = await asked(mostMs, "an owner", () =>
          other.shards.replace(0, undefined, came.id).catch(() => undefined),
        );
        await until("the owner", () => third.shards.owner(0)?.epoch === owner.epoch);
        const [afterMs] = [performance.now()];
        await until("a time to live", () => performance.now() - afterMs > ttlMs);
        assert.ok(directories.every((directory) => came.id === ids(directory).at(-1)));
        assert.ok(directories.every((directory) => ids(directory).length === 4));
        assert.deepEqual(
          directories.flatMap((directory) => directory.problems()),
          [],
        );
      } finally {
        await etcd.start(leader);
      }
    });

    for (const kind of ["leader", "follower"]) {
      it(`may hang with all its connections open: a ${kind} that a watch and a lease are at`, async () => {
        const leader = await etcd.leader();
        const hung = kind === "leader" ? leader : (leader + 1) % 3;
        const endpoints = [0, 1, 2].map((step) => etcd.endpoints[(hung + step) % 3] ?? "");
        const prefix = newPrefix();
        const one = await open({ prefix, endpoints, random: first });
        const other = await open({ prefix, endpoints: endpoints.slice(1) });
        const membership = await one.join(instance(), never);
        await until("it", () => ids(other).length === 1);
        etcd.freeze(hung);
        try {
          const came = instance();
          await asked(mostMs, "a new instance", async () =>
            other.join(came, never).catch(() => undefined),
          );
          const cameMs = performance.now();
          await until("it", () => ids(one).includes(came.id));
          const tookMs = performance.now() - cameMs;
          assert.ok(tookMs < 10_000, `it took ${tookMs} ms`);
          await until("the lease", () => membership.held);
          assert.equal(ids(other).length, 2);
          const owner = await one.shards.replace(1, undefined, came.id);
          await until("the owner", () => other.shards.owner(1)?.epoch === owner?.epoch);
        } finally {
          etcd.thaw(hung);
        }
        await until("no problem", () => one.problems().length + other.problems().length === 0);
        assert.equal(ids(one).length, 2);
      });
    }

    it("closes at once while the member that it asks hangs", async () => {
      const [endpoint = ""] = etcd.endpoints;
      const directory = await open({ endpoints: [endpoint] });
      await directory.join(instance(), never);
      etcd.freeze(0);
      try {
        const call = assert.rejects(directory.shards.refresh(0));
        await within(500, "the end", directory.close());
        await within(500, "the end of the call", call);
      } finally {
        etcd.thaw(0);
      }
    });

    it("may all be down for longer than a lease lives, and nothing changes (P10)", async () => {
      const prefix = newPrefix();
      const said: string[] = [];
      const one = await open({ prefix, said });
      const other = await open({ prefix });
      const membership = await one.join(instance(), never);
      const owner = await one.shards.replace(0, undefined, "life");
      await other.join(instance(), never);
      await until("both", () => ids(one).length === 2 && ids(other).length === 2);
      const changes: unknown[] = [];
      one.instances("delivery").watch(() => changes.push(ids(one)));
      await etcd.killAll();
      const downMs = performance.now();
      await until("it is known", () => one.problems().length === 2);
      await until("a while", () => performance.now() - downMs > 2 * ttlMs);
      assert.equal(membership.held, false);
      await assert.rejects(
        one.shards.replace(0, owner, "next"),
        (error) => ConnectError.from(error).code === Code.Unavailable,
      );
      assert.equal(ids(one).length, 2);
      await etcd.startAll();
      const upMs = performance.now();
      await until("the lease", () => membership.held);
      await until("no problem", () => one.problems().length === 0);
      assert.ok(performance.now() - upMs < 5_000, `after ${performance.now() - upMs} ms`);
      await until("a time to live", () => performance.now() - upMs > 2 * ttlMs);
      assert.deepEqual([ids(one).length, ids(other).length, changes], [2, 2, []]);
      assert.deepEqual(await other.shards.refresh(0), owner);
      // Down and up again, of the watch and of the lease.
      assert.ok(said.length <= 4, said.join(""));
    });

    it("are waited for where they are absent, without much noise, until somebody gives up", async () => {
      const [endpoint = ""] = etcd.endpoints;
      const line = await cutLine(endpoint);
      line.cut();
      const said: string[] = [];
      const giveUp = new AbortController();
      const waiting = open({ endpoints: [line.endpoint], said });
      const givenUp = open({ endpoints: [line.endpoint], signal: giveUp.signal });
      givenUp.catch(() => undefined);
      await until("it says so", () => said.length > 0);
      const toldMs = performance.now();
      await until("a while", () => performance.now() - toldMs > 2_000);
      assert.equal(said.length, 1);
      giveUp.abort(new Error("enough"));
      await assert.rejects(within(1_000, "the end", givenUp), /enough/);
      line.heal();
      assert.deepEqual((await within(5_000, "etcd", waiting)).problems(), []);
    });
  });

  it("tells a process that was paused for longer than its lease that it is lost, and lets it end", async () => {
    const prefix = newPrefix();
    const other = await open({ prefix });
    const holder = spawn(
      process.execPath,
      ["--import", "tsx", "test/cluster/holder.ts", prefix, ...etcd.endpoints],
      { cwd: root, stdio: ["pipe", "pipe", "inherit"] },
    );
    try {
      const words: string[] = [];
      createInterface({ input: holder.stdout }).on("line", (word) => words.push(word));
      await until("it has joined", () => words.includes("joined"));
      await until("it is seen", () => ids(other).includes("holder"));
      holder.kill("SIGSTOP");
      await until("its lease ends", () => ids(other).length === 0);
      assert.deepEqual(words, ["joined"]);
      holder.kill("SIGCONT");
      await until("it knows", () => words.length > 1);
      const ended = new Promise((end) => holder.once("exit", end));
      holder.stdin.end();
      assert.equal(await within(5_000, "its end", ended), 0);
      assert.deepEqual(words, ["joined", "lost", "closed"]);
    } finally {
      holder.kill("SIGKILL");
    }
  });
});
