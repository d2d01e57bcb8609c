/** Rendezvous hashing: an even spread, the least movement, one answer for everybody. */
import assert from "node:assert/strict";
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
});
