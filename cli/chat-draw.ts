/** The chat's screen as rows: a pure function of the state, the time and the terminal's size. */
import { drawConversation } from "./chat-draw-conversation.ts";
import { drawHeader } from "./chat-draw-header.ts";
import { drawList } from "./chat-draw-list.ts";
import { type Editor, textOf } from "./chat-editor.ts";
import { type Frame, type Row, names } from "./chat-rows.ts";
import type { ChatState } from "./chat-state.ts";
import { cells, cleanLine, splitGraphemes, truncate, wrap } from "./chat-text.ts";

export interface Drawing {
  /** As many as the frame has. */
  readonly rows: readonly Row[];
  readonly cursor: { readonly x: number; readonly y: number };
  /** The state's scroll, no further than there are rows. */
  readonly scroll: number;
}

const inputRowsMax = 5;

export function draw(state: ChatState, frame: Frame): Drawing {
  const columns = Math.max(20, frame.columns);
  const input = drawInput(state.editor, columns);
  const rule: Row = [{ text: "─".repeat(columns), dim: true }];
  const header = [drawHeader(state, { ...frame, columns }), rule];
  const room = Math.max(1, frame.rows - header.length - 2 - input.rows.length);
  const notice = drawNotice(state.notice, columns).slice(0, room - 1);
  const body = drawBody(state, { ...frame, columns, rows: room - notice.length });
  const foot = drawFoot(state, { ...frame, columns }, body.scroll);
  const above = [...header, ...body.rows, ...notice, foot, rule];
  return {
    rows: [...above, ...input.rows].slice(0, frame.rows),
    cursor: { x: input.cursor.x, y: Math.min(frame.rows - 1, above.length + input.cursor.y) },
    scroll: body.scroll,
  };
}

/** Exactly as many rows as the frame has: a conversation grows from below, a list from above. */
function drawBody(state: ChatState, frame: Frame): { rows: Row[]; scroll: number } {
  if (state.open === undefined) {
    const rows = drawList(state, frame).slice(0, frame.rows);
    return { rows: [...rows, ...blank(frame.rows - rows.length)], scroll: 0 };
  }
  const { rows, scroll } = drawConversation(state, state.open, frame);
  return { rows: [...blank(frame.rows - rows.length), ...rows], scroll };
}

function blank(count: number): Row[] {
  return Array.from({ length: count }, (): Row => [{ text: " " }]);
}

function drawNotice(notice: readonly string[], columns: number): Row[] {
  const lines = notice.flatMap((line) => wrap(cleanLine(line), columns - 2));
  return lines.map((text): Row => [
    { text: ` ${text}`, ...(notice.length === 1 ? { color: "yellow" } : {}) },
  ]);
}

function drawFoot(state: ChatState, { columns, nowMs }: Frame, scroll: number): Row {
  const { open, link } = state;
  if (link.t === "stopped")
    return [{ text: ` ${truncate(cleanLine(link.why), columns - 2)}`, color: "red" }];
  if (scroll > 0)
    return [
      { text: ` ↓ ${scroll} more row${scroll === 1 ? "" : "s"} below (PgDn)`, color: "yellow" },
    ];
  if (open === undefined)
    return [
      {
        text: truncate(
          " ↑↓ choose · Enter opens · /with USER · /group TITLE USER… · /help",
          columns,
        ),
        dim: true,
      },
    ];
  const typing = [...open.typing].filter(([, untilMs]) => untilMs > nowMs).map(([user]) => user);
  if (typing.length === 0) return [{ text: " " }];
  const text = `${names(typing, state.me)} ${typing.length === 1 ? "is" : "are"} typing…`;
  return [{ text: ` ${truncate(text, columns - 2)}`, dim: true }];
}

/** The text broken at the edge, wherever that is, so that the cursor's place is exact. */
function drawInput(
  editor: Editor,
  columns: number,
): { rows: Row[]; cursor: { x: number; y: number } } {
  const width = columns - 3;
  const lines: string[] = [""];
  let used = 0;
  let cursor = { x: 0, y: 0 };
  const put = (text: string): void => {
    for (const grapheme of splitGraphemes(text)) {
      const size = grapheme === "\n" ? 0 : cells(grapheme);
      if (grapheme === "\n" || used + size > width) {
        lines.push("");
        used = 0;
      }
      if (grapheme === "\n") continue;
      lines[lines.length - 1] += grapheme;
      used += size;
    }
  };
  put(cleanKeepingLines(editor.before));
  cursor = { x: used + 2, y: lines.length - 1 };
  put(cleanKeepingLines(editor.after));
  const from = Math.max(0, Math.min(cursor.y - inputRowsMax + 1, lines.length - inputRowsMax));
  const shown = lines.slice(from, from + inputRowsMax);
  const hint = textOf(editor) === "" ? [{ text: "/help", dim: true } as const] : [];
  return {
    rows: shown.map((line, at): Row => [
      { text: from + at === 0 ? "> " : "  ", color: "cyan" },
      { text: line },
      ...hint,
    ]),
    cursor: { x: cursor.x, y: cursor.y - from },
  };
}

function cleanKeepingLines(text: string): string {
  return text.split("\n").map(cleanLine).join("\n");
}
