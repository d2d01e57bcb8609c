/** What the simulated Cassandra does when things go wrong, as the real one: each rule is left out once, and its absence is seen. */
import assert from "node:assert/strict";
import { errors, types } from "cassandra-driver";
import type { Clock } from "../../../mesh/clock.ts";
import { seededRandom } from "../../../mesh/random.ts";
import { statementsOf } from "../../../storage/cassandra/rows.ts";
import type { Nodes, Statement } from "../../../storage/cassandra/nodes.ts";
import { SimulatedCassandra } from "./cassandra.ts";
import { IdleClock } from "./idle.ts";
import { calm, stormy } from "./network.ts";
import type { Rules } from "./node.ts";

const { one, quorum } = types.consistencies;
const codes = types.responseErrorCodes;

const put = (key: string, value: bigint, timestamp = value): Statement => ({
  query: "UPDATE ks.last_seen USING TIMESTAMP ? SET time_ms = ? WHERE user_id = ?",
  params: [timestamp, value, key],
});
const get = (key: string): Statement => ({
  query: "SELECT time_ms FROM ks.last_seen WHERE user_id = ?",
  params: [key],
});

class Bench {
  readonly clock = new IdleClock();
  readonly cassandra: SimulatedCassandra;
  readonly client: Nodes;

  constructor(rules: Partial<Rules> = {}, seed = 1) {
    this.cassandra = new SimulatedCassandra(this.clock, seededRandom(seed), rules);
    this.client = this.cassandra.client("client", this.clock);
  }

  write(statement: Statement): Promise<unknown> {
    return this.client.execute(statement, { consistency: quorum });
  }

  async read(key: string): Promise<bigint> {
    const { rows } = await this.client.execute(get(key), { consistency: quorum });
    return valueIn(rows);
  }

  /** What each replica has by itself. */
  replicas(key: string): bigint[] {
    return [0, 1, 2].map((node) => valueIn(this.cassandra.at(node, get(key))));
  }

  wait(ms: number): Promise<void> {
    return new Promise((resolve) => void this.clock.after(ms, resolve));
  }

  count({ params }: Statement): number {
    const [, value, key] = params;
    return this.replicas(String(key)).filter((kept) => kept === value).length;
  }
}

function valueIn(rows: readonly { readonly [column: string]: unknown }[]): bigint {
  const value = rows[0]?.["time_ms"];
  return typeof value === "bigint" ? value : 0n;
}

/** How many of these seeds show it. */
async function seen(seeds: number, shows: (seed: number) => Promise<boolean>): Promise<number> {
  let count = 0;
  for (let seed = 1; seed <= seeds; seed += 1) if (await shows(seed)) count += 1;
  return count;
}

const codeOf = (error: unknown): number | undefined =>
  error instanceof errors.ResponseError ? error.code : undefined;

describe("a simulated Cassandra", () => {
  describe("reads and writes at quorum", () => {
    /** A write that was answered is in every later read, whatever goes wrong. */
    const stale = (rules: Partial<Rules>) => async (seed: number) => {
      const bench = new Bench(rules, seed);
      bench.cassandra.weather = stormy;
      let kept = 0n;
      for (let value = 1n; value <= 30n; value += 1n) {
        await bench.write(put("k", value)).then(
          () => (kept = value),
          () => undefined,
        );
        const found = await bench.read("k").catch(() => undefined);
        if (found !== undefined && found < kept) return true;
      }
      return false;
    };

    it("meet", async () => {
      assert.equal(await seen(40, stale({})), 0);
      assert((await seen(40, stale({ quorums: false }))) > 20);
    });

    it("go on without one node, and without two are refused at once, and change nothing", async () => {
      const bench = new Bench();
      await bench.write(put("k", 1n));
      bench.cassandra.nodes[2]?.goDown();
      await bench.write(put("k", 2n));
      assert.equal(await bench.read("k"), 2n);
      bench.cassandra.nodes[1]?.goDown();
      await bench.wait(11_000);
      await assert.rejects(bench.write(put("k", 3n)), (error) => {
        assert.equal(codeOf(error), codes.unavailableException);
        return true;
      });
      await assert.rejects(bench.read("k"), { code: codes.unavailableException });
      assert.deepEqual(bench.replicas("k"), [2n, 2n, 1n]);
      bench.cassandra.nodes[0]?.goDown();
      await assert.rejects(bench.read("k"), errors.NoHostAvailableError);
    });
  });

  describe("a write that timed out", () => {
    it("may be there or not, and once it was read it is never gone again: a read repairs", async () => {
      const goesBack = (rules: Partial<Rules>) => async (seed: number) => {
        const bench = new Bench({ ...rules, hints: false }, seed);
        await bench.write(put("k", 1n));
        bench.cassandra.leave(0, put("k", 2n));
        assert.deepEqual(bench.replicas("k"), [2n, 1n, 1n]);
        const reads: bigint[] = [];
        for (let at = 0; at < 12; at += 1) reads.push(await bench.read("k"));
        return reads.some((value, at) => at > 0 && value < (reads[at - 1] ?? 0n));
      };
      assert.equal(await seen(20, goesBack({})), 0);
      assert((await seen(20, goesBack({ readRepair: false }))) > 15);
    });

    it("is found by some first reads and not by others", async () => {
      const first = async (seed: number): Promise<boolean> => {
        const bench = new Bench({ hints: false }, seed);
        bench.cassandra.leave(0, put("k", 2n));
        return (await bench.read("k")) === 2n;
      };
      const found = await seen(20, first);
      assert(found > 2 && found < 18, `${found} of 20`);
    });

    it("is told to those that missed it later: hints", async () => {
      const kept = async (rules: Partial<Rules>): Promise<bigint[]> => {
        const bench = new Bench(rules);
        bench.cassandra.nodes[2]?.goDown();
        await bench.wait(11_000);
        await bench.write(put("k", 1n));
        bench.cassandra.nodes[2]?.comeUp();
        assert.deepEqual(bench.replicas("k"), [1n, 1n, 0n]);
        await bench.wait(30_000);
        return bench.replicas("k");
      };
      assert.deepEqual(await kept({}), [1n, 1n, 1n]);
      assert.deepEqual(await kept({ hints: false }), [1n, 1n, 0n]);
    });

    it("ends in one of the ways that there are, each of them by chance", async () => {
      const outcomes = new Map<string, number>();
      for (let seed = 1; seed <= 60; seed += 1) {
        const bench = new Bench({}, seed);
        bench.cassandra.weather = { ...stormy, refused: 0.2, lost: 0.2 };
        for (let value = 1n; value <= 5n; value += 1n) {
          const statement = put(`k${value}`, value);
          const answer = await bench.write(statement).then(
            () => "written",
            (error: unknown) =>
              `${error instanceof Error ? error.name : ""} ${codeOf(error) ?? ""}`,
          );
          const key = `${answer} on ${bench.count(statement)}`;
          outcomes.set(key, (outcomes.get(key) ?? 0) + 1);
        }
      }
      const has = (answer: string): boolean =>
        [...outcomes.keys()].some((key) => key.startsWith(answer));
      for (const on of [0, 1, 2, 3])
        assert(has(`OperationTimedOutError  on ${on}`), JSON.stringify([...outcomes]));
      assert(has("written on 2") && has("written on 3"));
      assert(!has("written on 0") && !has("written on 1"));
      assert(has(`ResponseError ${codes.writeTimeout} on 1`), JSON.stringify([...outcomes]));
      assert(has(`ResponseError ${codes.writeFailure}`), JSON.stringify([...outcomes]));
    });
  });

  describe("timestamps", () => {
    it("decide which of two writes stays, not the order in which they arrive", async () => {
      const kept = async (rules: Partial<Rules>): Promise<bigint> => {
        const bench = new Bench(rules);
        await bench.write(put("k", 7n));
        await bench.write(put("k", 3n));
        return bench.read("k");
      };
      assert.equal(await kept({}), 7n);
      assert.equal(await kept({ laterWins: false }), 3n);
    });

    it("that are equal let the greater value win, and a deletion before both", async () => {
      const bench = new Bench();
      await bench.write(put("k", 7n, 1n));
      await bench.write(put("k", 3n, 1n));
      assert.equal(await bench.read("k"), 7n);
      await bench.write({ ...put("k", 0n), params: [1n, null, "k"] });
      assert.equal(await bench.read("k"), 0n);
      await bench.write(put("k", 9n, 1n));
      assert.equal(await bench.read("k"), 0n);
    });

    it("are the client's clock's where a statement names none: one that is behind is not heard", async () => {
      const bench = new Bench();
      const behind: Clock = {
        now: () => bench.clock.now() - 5_000,
        monotonic: () => bench.clock.monotonic(),
        after: (ms, run) => bench.clock.after(ms, run),
        afterTurn: (run) => bench.clock.afterTurn(run),
      };
      const slow = bench.cassandra.client("slow", behind);
      const query = "UPDATE ks.last_seen SET time_ms = ? WHERE user_id = ?";
      await bench.write({ query, params: [1n, "k"] });
      await slow.execute({ query, params: [2n, "k"] }, { consistency: quorum });
      assert.equal(await bench.read("k"), 1n);
      await bench.wait(6_000);
      await slow.execute({ query, params: [2n, "k"] }, { consistency: quorum });
      assert.equal(await bench.read("k"), 2n);
    });
  });

  describe("an unlogged batch", () => {
    /** Whether a replica had some of a batch; and whether it had some of what the batch changes in one partition. */
    async function parts(rules: Partial<Rules>): Promise<{ torn: number; tornPartitions: number }> {
      const { index } = statementsOf("ks");
      let [torn, tornPartitions] = [0, 0];
      for (let seed = 1; seed <= 60; seed += 1) {
        const bench = new Bench({ ...rules, hints: false }, seed);
        bench.cassandra.weather = { ...calm, halfway: 1 };
        const rows = ["a", "b"].flatMap((user) => ["x", "y"].map((id) => [user, id]));
        const batch = rows.map(([user, id]) => ({
          query: index,
          params: [1n, undefined, 1n, undefined, undefined, undefined, undefined, user, id],
        }));
        await assert.rejects(bench.client.batch(batch, quorum));
        for (const node of [0, 1, 2]) {
          const query = "SELECT * FROM ks.user_index WHERE user_id = ?";
          const [a = 0, b = 0] = ["a", "b"].map(
            (user) => bench.cassandra.at(node, { query, params: [user] }).length,
          );
          if (a !== b) torn += 1;
          if (a === 1 || b === 1) tornPartitions += 1;
        }
      }
      return { torn, tornPartitions };
    }

    it("is whole in each partition, and not beyond", async () => {
      const { torn, tornPartitions } = await parts({});
      assert(torn > 10);
      assert.equal(tornPartitions, 0);
      assert((await parts({ partitionsWhole: false })).tornPartitions > 10);
    });
  });

  it("gives what is kept once for a partition with every row, and alone only to who asks for all of it", async () => {
    const bench = new Bench();
    const { groupHead, member } = statementsOf("ks");
    const ask = async (where: string, ...params: unknown[]): Promise<unknown[]> => {
      const query = `SELECT head, user_id FROM ks.groups WHERE conversation_id = ?${where}`;
      const page = await bench.client.execute({ query, params: ["g", ...params] }, {});
      return page.rows.map((row) => [String(row["head"]), row["user_id"]]);
    };
    await bench.write({ query: groupHead, params: [1n, Buffer.from("head"), "g"] });
    assert.deepEqual(await ask(""), [["head", null]]);
    assert.deepEqual(await ask(" AND user_id > ?", ""), []);
    for (const user of ["b", "ä", "a"])
      await bench.write({ query: member, params: [1n, 1n, undefined, undefined, "g", user] });
    assert.deepEqual(await ask(" AND user_id > ?", "a"), [
      ["head", "b"],
      ["head", "ä"],
    ]);
  });

  it("refuses what it does not understand, and values of another type", async () => {
    const bench = new Bench();
    const invalid = { code: codes.invalid };
    await assert.rejects(bench.write({ query: "DELETE FROM ks.log", params: [] }), invalid);
    await assert.rejects(bench.write({ ...put("k", 1n), params: [1n, "1", "k"] }), invalid);
    await assert.rejects(bench.write({ ...put("k", 1n), params: [1n, 1n, "k", 2] }), invalid);
    await assert.rejects(bench.write({ ...put("k", 1n), params: [1n, 1n] }), invalid);
    const query = "SELECT time_ms FROM ks.last_seen WHERE time_ms = ?";
    await assert.rejects(bench.write({ query, params: [1n] }), invalid);
  });

  it("does the same for the same seed, and something else for another", async () => {
    const history = async (seed: number): Promise<string> => {
      const bench = new Bench({}, seed);
      bench.cassandra.weather = stormy;
      const lines: string[] = [];
      const note = (what: string): void => void lines.push(`${bench.clock.monotonic()} ${what}`);
      const work = Array.from({ length: 40 }, async (_, at) => {
        const key = `k${at % 4}`;
        await bench.write(put(key, BigInt(at))).then(
          () => note(`wrote ${at}`),
          (error: unknown) => note(`${at}: ${String(error)}`),
        );
        await bench.client.execute(get(key), { consistency: at % 2 === 0 ? quorum : one }).then(
          ({ rows }) => note(`${key} is ${valueIn(rows)}`),
          (error: unknown) => note(`${key}: ${String(error)}`),
        );
      });
      bench.cassandra.nodes[seed % 3]?.goDown();
      bench.clock.after(3_000, () => bench.cassandra.nodes[seed % 3]?.comeUp());
      await Promise.all(work);
      await bench.wait(60_000);
      note(JSON.stringify([...bench.cassandra.network.faults]));
      return lines.join("\n");
    };
    const first = await history(1);
    assert.equal(await history(1), first);
    assert.notEqual(await history(2), first);
    assert.match(first, /"halfway"/);
  });
});
