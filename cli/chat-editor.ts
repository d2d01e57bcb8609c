/** The line that is being written: a value, and what each key makes of it. Knows no terminal. */
import { splitGraphemes } from "./chat-text.ts";

export interface Editor {
  readonly before: string;
  /** Behind the cursor. */
  readonly after: string;
  /** What was submitted before, oldest first. */
  readonly past: readonly string[];
  /** Which of the past is shown; the past's length: none, the draft. */
  readonly at: number;
  readonly draft: string;
  /** Between the terminal's marks of a paste: line ends belong to the text. */
  readonly pasting: boolean;
}

/** As Node's `readline` names them. */
export interface Key {
  readonly name?: string | undefined;
  readonly ctrl?: boolean | undefined;
  readonly meta?: boolean | undefined;
  readonly sequence?: string | undefined;
}

const pastMax = 100;
/** A message has at most 16 KiB; the server says so, the editor stays quick. */
const textMax = 32_768;

export const emptyEditor: Editor = {
  before: "",
  after: "",
  past: [],
  at: 0,
  draft: "",
  pasting: false,
};

export function textOf(editor: Editor): string {
  return editor.before + editor.after;
}

/** Takes what was written out, and remembers it. */
export function submit(editor: Editor): Editor {
  const text = textOf(editor);
  const past =
    text === "" || editor.past.at(-1) === text
      ? editor.past
      : [...editor.past, text].slice(-pastMax);
  return { ...emptyEditor, past, at: past.length };
}

/** What the key makes of the text; undefined where the key is not for editing. `characters` is what it types, if anything. */
export function edit(editor: Editor, characters: string | undefined, key: Key): Editor | undefined {
  const { name } = key;
  if (name === "paste-start") return { ...editor, pasting: true };
  if (name === "paste-end") return { ...editor, pasting: false };
  if (editor.pasting && (name === "return" || name === "enter")) return insert(editor, "\n");
  // Ctrl-J and Alt-Enter: a new line within the message.
  if (name === "enter" || (name === "return" && key.meta)) return insert(editor, "\n");
  if (key.ctrl || key.meta) return editByControl(editor, key);
  switch (name) {
    case "left":
      return moved(editor, -1);
    case "right":
      return moved(editor, 1);
    case "home":
      return { ...editor, before: "", after: textOf(editor) };
    case "end":
      return { ...editor, before: textOf(editor), after: "" };
    case "backspace":
      return { ...editor, before: splitGraphemes(editor.before).slice(0, -1).join("") };
    case "delete":
      return { ...editor, after: splitGraphemes(editor.after).slice(1).join("") };
    case "up":
      return recall(editor, editor.at - 1);
    case "down":
      return recall(editor, editor.at + 1);
    case "return":
    case "escape":
    case "tab":
    case "pageup":
    case "pagedown":
      return undefined;
    default:
      return characters === undefined || /^\p{Cc}/u.test(characters)
        ? undefined
        : insert(editor, characters);
  }
}

function editByControl(editor: Editor, key: Key): Editor | undefined {
  const { before, after } = editor;
  const text = textOf(editor);
  const wordStart = before.replace(/\S+\s*$|\s+$/u, "").length;
  if (key.meta) {
    if (key.name === "b" || key.name === "left")
      return { ...editor, before: text.slice(0, wordStart), after: text.slice(wordStart) };
    if (key.name === "f" || key.name === "right") {
      const word = /^\s*\S*/u.exec(after)?.[0] ?? "";
      return { ...editor, before: before + word, after: after.slice(word.length) };
    }
    if (key.name === "backspace") return { ...editor, before: before.slice(0, wordStart) };
    return undefined;
  }
  switch (key.name) {
    case "a":
      return { ...editor, before: "", after: text };
    case "e":
      return { ...editor, before: text, after: "" };
    case "b":
      return moved(editor, -1);
    case "f":
      return moved(editor, 1);
    case "h":
      return { ...editor, before: splitGraphemes(before).slice(0, -1).join("") };
    case "k":
      return { ...editor, after: "" };
    case "u":
      return { ...editor, before: "" };
    case "w":
      return { ...editor, before: before.slice(0, wordStart) };
    default:
      return undefined;
  }
}

function insert(editor: Editor, characters: string): Editor {
  const before = editor.before + characters;
  return before.length + editor.after.length > textMax ? editor : { ...editor, before };
}

function moved(editor: Editor, by: -1 | 1): Editor {
  const { before, after } = editor;
  if (by === 1) {
    const next = splitGraphemes(after)[0] ?? "";
    return { ...editor, before: before + next, after: after.slice(next.length) };
  }
  const last = splitGraphemes(before).at(-1) ?? "";
  return { ...editor, before: before.slice(0, before.length - last.length), after: last + after };
}

function recall(editor: Editor, at: number): Editor {
  if (at < 0 || at > editor.past.length || at === editor.at) return editor;
  const draft = editor.at === editor.past.length ? textOf(editor) : editor.draft;
  return { ...editor, draft, at, before: editor.past[at] ?? draft, after: "" };
}
