/** Who waits for an outcome: against a map, which is what it stands for. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { Pending } from "../../gateway/pending.ts";

interface One {
  readonly name: number;
}

describe("operations that wait", () => {
  it("are found by their number once, as a map would find them", () => {
    const steps = fc.array(fc.option(fc.nat(40), { freq: 2 }), { maxLength: 300 });
    fc.assert(
      fc.property(steps, (all) => {
        const pending = new Pending<One>();
        const model = new Map<number, One>();
        const numbers: number[] = [];
        for (const step of all) {
          if (step === null) {
            const one = { name: numbers.length };
            const number = pending.add(one);
            assert.ok(!model.has(number));
            model.set(number, one);
            numbers.push(number);
          } else {
            const number = numbers[numbers.length - 1 - step] ?? 77_777;
            assert.equal(pending.take(number), model.get(number));
            model.delete(number);
          }
          assert.deepEqual([...pending], [...model.values()]);
          assert.equal(pending.size, model.size);
        }
        assert.deepEqual(pending.takeAll(), [...model.values()]);
        assert.equal(pending.size, 0);
        for (const number of numbers) assert.equal(pending.take(number), undefined);
      }),
    );
  });

  it("keep their numbers while those before them go, however many", () => {
    const pending = new Pending<One>();
    const slow = pending.add({ name: -1 });
    const numbers = Array.from({ length: 10_000 }, (_, name) => pending.add({ name }));
    for (const [name, number] of numbers.slice(0, 9_000).entries())
      assert.equal(pending.take(number)?.name, name);
    assert.deepEqual(
      [...pending].slice(0, 2).map(({ name }) => name),
      [-1, 9_000],
    );
    assert.equal(pending.take(slow)?.name, -1);
    assert.equal(pending.take(numbers[9_000] ?? 0)?.name, 9_000);
    assert.equal(pending.take(numbers[9_500] ?? 0)?.name, 9_500);
    assert.equal(pending.take(slow), undefined);
    assert.equal(pending.size, 998);
    assert.ok(!numbers.includes(pending.add({ name: 1 })));
  });
});
