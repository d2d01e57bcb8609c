import assert from "node:assert/strict";
import fc from "fast-check";
import { cells, clean, cleanLine, fit, truncate, wrap } from "../../cli/chat-text.ts";

describe("text on a terminal", () => {
  it("takes out what would steer the terminal", () => {
    assert.equal(clean("a\u001b[2Jb\u009bc\u202ed\u0007"), "a�[2Jb�c�d�");
    assert.equal(clean("one\r\ntwo\tx"), "one\ntwo    x");
    assert.equal(cleanLine("one\ntwo"), "one ↵ two");
  });

  it("counts cells, not characters", () => {
    assert.equal(cells("hello"), 5);
    assert.equal(cells("日本"), 4);
    assert.equal(cells("👍"), 2);
    assert.equal(cells("👩‍👩‍👧"), 2);
    assert.equal(cells("e\u0301"), 1);
  });

  it("breaks between words, and within those that are too long", () => {
    assert.deepEqual(wrap("the quick brown fox", 10), ["the quick", "brown fox"]);
    assert.deepEqual(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
    assert.deepEqual(wrap("日本語テスト", 5), ["日本", "語テ", "スト"]);
    assert.deepEqual(wrap("one\n\ntwo", 10), ["one", "", "two"]);
    assert.deepEqual(wrap("", 10), [""]);
  });

  it("never makes a line too wide, and loses nothing but spaces", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "grapheme" }),
        fc.integer({ min: 2, max: 40 }),
        (text, columns) => {
          const lines = wrap(clean(text), columns);
          for (const line of lines) assert.ok(cells(line) <= columns, JSON.stringify(line));
          const bare = (one: string): string => one.replaceAll(/[ \n]/g, "");
          assert.equal(bare(lines.join("")), bare(clean(text)));
        },
      ),
    );
  });

  it("cuts and fills to a width", () => {
    assert.equal(truncate("hello", 5), "hello");
    assert.equal(truncate("hello!", 5), "hell…");
    assert.equal(truncate("日本語", 4), "日…");
    assert.equal(fit("ab", 4), "ab  ");
    assert.equal(cells(fit("日本語", 4)), 4);
    assert.equal(fit("abc", 0), "");
  });
});
