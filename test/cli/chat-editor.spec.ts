import assert from "node:assert/strict";
import { type Editor, edit, emptyEditor, submit, textOf } from "../../cli/chat-editor.ts";

/** Types characters and `<named>` keys; `^x` in brackets is Ctrl-x, `~x` Alt-x. */
function type(keys: string, editor: Editor = emptyEditor): Editor {
  let now = editor;
  for (const [key] of keys.matchAll(/<[^>]+>|[^<]/gu)) {
    const named = /^<(?<mark>[\^~]?)(?<name>.+)>$/u.exec(key)?.groups;
    const [mark, name] = [named?.["mark"], named?.["name"]];
    const pressed =
      name === undefined ? { name: key } : { name, ctrl: mark === "^", meta: mark === "~" };
    now = edit(now, name === undefined ? key : undefined, pressed) ?? now;
  }
  return now;
}

const shown = (editor: Editor): string => `${editor.before}|${editor.after}`;

describe("the line that is being written", () => {
  it("takes text where the cursor is", () => {
    assert.equal(shown(type("helo<left>l")), "hell|o");
    assert.equal(shown(type("bc<home>a<end>d")), "abcd|");
    assert.equal(shown(type("bc<^a>a<^e>d")), "abcd|");
  });

  it("deletes whole graphemes", () => {
    assert.equal(shown(type("a👩‍👩‍👧<backspace>")), "a|");
    assert.equal(shown(type("a👍<left><delete>")), "a|");
    assert.equal(shown(type("ab<^h>")), "a|");
  });

  it("deletes words and ends of lines", () => {
    assert.equal(shown(type("one two<^w>")), "one |");
    assert.equal(shown(type("one two<~b><^u>")), "|two");
    assert.equal(shown(type("one two<~b><^k>")), "one |");
    assert.equal(shown(type("one two<home><~f>!")), "one!| two");
  });

  it("recalls what was submitted, and the draft after it", () => {
    const later = type("thr", submit(type("two", submit(type("one")))));
    assert.equal(shown(type("<up>", later)), "two|");
    assert.equal(shown(type("<up><up><up>", later)), "one|");
    assert.equal(shown(type("<up><up><down><down><down>", later)), "thr|");
  });

  it("makes line ends within the message, by key and by paste", () => {
    assert.equal(textOf(type("a<enter>b<~return>c")), "a\nb\nc");
    assert.equal(textOf(type("<paste-start>a<return>b<paste-end>")), "a\nb");
    assert.equal(edit(type("a"), "\r", { name: "return" }), undefined);
  });

  it("leaves keys that are not for editing alone", () => {
    assert.equal(edit(emptyEditor, undefined, { name: "pageup" }), undefined);
    assert.equal(edit(emptyEditor, "\u0001", { name: undefined }), undefined);
    assert.equal(edit(emptyEditor, undefined, { name: "x", ctrl: true }), undefined);
  });

  it("stays bounded", () => {
    const full = { ...emptyEditor, before: "x".repeat(32_768) };
    assert.equal(edit(full, "y", { name: "y" }), full);
  });
});
