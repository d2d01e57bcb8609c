/** Rendezvous hashing: an even spread, the least movement, one answer for everybody. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { newId, seededRandom } from "../../mesh/random.ts";
import { Ring } from "../../mesh/ring.ts";

const random = seededRandom(7);
const ids = Array.from({ length: 5 }, () => newId(random));
const keys = Array.from({ length: 10_000 }, (_, at) => `user-${at}`);

function shares(ring: Ring): Map<string | undefined, number> {
  const counts = new Map<string | undefined, number>();
  for (const key of keys) counts.set(ring.of(key), (counts.get(ring.of(key)) ?? 0) + 1);
  return counts;
}

describe("a ring", () => {
  it("gives the same answer whatever the order, and however often an id is named", () => {
    const ring = new Ring(ids);
    const other = new Ring([...ids.toReversed(), ...ids]);
    assert.deepEqual(other.ids, ids.toSorted());
    for (const key of keys) assert.equal(other.of(key), ring.of(key));
  });

  it("gives each id its share, within a tenth", () => {
    for (const count of [2, 3, 5]) {
      const counts = shares(new Ring(ids.slice(0, count)));
      assert.equal(counts.size, count);
      for (const share of counts.values())
        assert.ok(Math.abs(share / (keys.length / count) - 1) < 0.1, `${share} of ${count}`);
    }
  });

  it("moves only the keys of an id that comes or goes, and spreads those", () => {
    const all = new Ring(ids);
    const gone = ids[2];
    const rest = new Ring(ids.filter((id) => id !== gone));
    const moved = new Map<string | undefined, number>();
    for (const key of keys) {
      if (all.of(key) !== gone) assert.equal(rest.of(key), all.of(key));
      else moved.set(rest.of(key), (moved.get(rest.of(key)) ?? 0) + 1);
    }
    assert.equal(moved.size, 4);
    for (const share of moved.values()) assert.ok(share > 350, String(share));
  });

  it("has nobody where there is nobody, and one for all where there is one", () => {
    assert.equal(new Ring([]).of("user"), undefined);
    assert.equal(new Ring(["a"]).of("user"), "a");
  });

  describe("of any instances", () => {
    const seed = fc.integer({ min: 1, max: 2 ** 31 - 1 });
    /** Ids as processes make them, and any texts. */
    const made = fc
      .tuple(seed, fc.integer({ min: 0, max: 12 }))
      .map(([from, count]) => freshIds(from, count));
    const any = fc.oneof(made, fc.array(fc.string({ maxLength: 12 }), { maxLength: 12 }));
    /** Two sets that share some. */
    const two = any.chain((all) => fc.tuple(fc.subarray(all), fc.subarray(all)));
    const someKeys = fc.array(fc.string({ maxLength: 20 }), { minLength: 1, maxLength: 50 });

    function freshIds(from: number, count: number): string[] {
      const chance = seededRandom(from);
      return Array.from({ length: count }, () => newId(chance));
    }

    it("answers with one of them, the same to whoever knows the same ones", () => {
      fc.assert(
        fc.property(any, someKeys, seed, (some, asked, from) => {
          const ring = new Ring(some);
          const chance = seededRandom(from);
          const shuffled = some
            .map((id) => [chance.unit(), id] as const)
            .toSorted(([one], [other]) => one - other)
            .map(([, id]) => id);
          const other = new Ring([...shuffled, ...some.slice(0, 2)]);
          for (const key of asked) {
            const place = ring.of(key);
            assert.equal(place !== undefined, some.length > 0);
            assert.ok(place === undefined || some.includes(place));
            assert.equal(other.of(key), place);
          }
        }),
      );
    });

    it("moves only keys of those who go and to those who come, whoever comes and goes", () => {
      fc.assert(
        fc.property(two, someKeys, ([before, after], asked) => {
          const [old, now] = [new Ring(before), new Ring(after)];
          for (const key of asked) {
            const [from, to] = [old.of(key), now.of(key)];
            if (from === to) continue;
            const left = from !== undefined && !after.includes(from);
            const came = to !== undefined && !before.includes(to);
            assert.ok(left || came, `${key} moved from ${from} to ${to}, who both stayed`);
          }
        }),
      );
    });

    it("gives nobody more than a fifth above its share, nor below", () => {
      fc.assert(
        fc.property(seed, fc.integer({ min: 2, max: 6 }), (from, count) => {
          const counts = shares(new Ring(freshIds(from, count)));
          const fair = keys.length / count;
          for (const id of counts.keys())
            assert.ok(Math.abs((counts.get(id) ?? 0) / fair - 1) < 0.2, `${counts.get(id)}`);
          assert.equal(counts.size, count);
        }),
        { numRuns: 25 },
      );
    });
  });
});
