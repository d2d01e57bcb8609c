/** An open conversation on the chat's screen: days, messages, ticks, and what is not loaded. Pure. */
import {
  type Frame,
  type Row,
  type Span,
  changeText,
  colorOf,
  contentText,
  nameOf,
} from "./chat-rows.ts";
import {
  type ChatState,
  type Item,
  type OpenConversation,
  type Tick,
  itemsOf,
  tickMarks,
  tickOf,
} from "./chat-state.ts";
import { cells, cleanLine, fit, truncate, wrap } from "./chat-text.ts";

const nameColumnsMax = 14;
const tickColumns = 7;
const narrowColumns = 40;

/** At most as many rows as the frame has, and how far up that is. */
export function drawConversation(
  state: ChatState,
  open: OpenConversation,
  frame: Frame,
): { rows: Row[]; scroll: number } {
  const items = itemsOf(open, state.me, (timeMs) => frame.calendar.key(timeMs));
  if (items.length === 0) {
    const { peerId } = open;
    const empty = peerId === undefined ? "Nothing here yet." : `Say hello to ${cleanLine(peerId)}.`;
    const text = open.loading || state.link.t !== "live" ? "…" : empty;
    return { rows: [[{ text: ` ${text}`, dim: true }]], scroll: 0 };
  }
  const place: Place = { ...frame, nameColumns: nameWidth(items, state.me, frame.columns) };
  // From the newest up, no further than what is shown.
  const rows: Row[] = [];
  for (const item of items.toReversed()) {
    if (rows.length >= frame.rows + state.scroll) break;
    rows.unshift(...drawItem(item, state, open, place));
  }
  const scroll = Math.max(0, Math.min(state.scroll, rows.length - frame.rows));
  const end = rows.length - scroll;
  return { rows: rows.slice(Math.max(0, end - frame.rows), end), scroll };
}

function nameWidth(items: readonly Item[], me: string, columns: number): number {
  let width = 3;
  for (const item of items) {
    if (item.t === "record") width = Math.max(width, cells(nameOf(item.record.senderId, me)));
  }
  return Math.min(width, nameColumnsMax, Math.floor(columns / 5));
}

interface Place extends Frame {
  readonly nameColumns: number;
}

function drawItem(item: Item, state: ChatState, open: OpenConversation, place: Place): Row[] {
  const { columns, calendar, nowMs } = place;
  switch (item.t) {
    case "day":
      return [[{ text: divider(calendar.day(item.timeMs, nowMs), columns), dim: true }]];
    case "new":
      return [[{ text: divider("new", columns), color: "yellow" }]];
    case "gap": {
      const count = item.to - item.from + 1;
      const what = `${count} ${item.oldest ? "older " : ""}message${count === 1 ? "" : "s"}`;
      const text = item.lost
        ? `${what} cannot be had`
        : open.loading
          ? `loading ${what}…`
          : `${what} not loaded: /more`;
      return [[{ text: divider(text, columns), color: "blue" }]];
    }
    case "record": {
      const { record } = item;
      const change = changeText(record, state.me);
      const time = calendar.time(Number(record.timeMs));
      if (change !== undefined) {
        return wrap(change, columns - 8).map((text, at): Row => [
          { text: at === 0 ? ` ${time} ` : "       ", dim: true },
          { text: ` ${text}`, dim: true },
        ]);
      }
      const content =
        record.body.case === "message"
          ? contentText(record.body.value)
          : "(of a kind that this version does not know)";
      const tick = record.senderId === state.me ? tickOf(open.view, record.seq) : undefined;
      return drawMessage(record.senderId, time, content, tick, state.me, place);
    }
    case "outgoing": {
      const { content, failed } = item.outgoing;
      const text = contentText(content);
      if (failed === undefined) return drawMessage(state.me, "", text, "pending", state.me, place);
      const rows = drawMessage(state.me, "", text, "failed", state.me, place);
      const reason = wrap(`not sent: ${cleanLine(failed)}`, columns - 8);
      return [...rows, ...reason.map((line): Row => [{ text: `        ${line}`, color: "red" }])];
    }
  }
}

function divider(text: string, columns: number): string {
  const middle = ` ${truncate(text, columns - 6)} `;
  return fit(`──${middle}${"─".repeat(Math.max(0, columns - cells(middle) - 2))}`, columns);
}

function drawMessage(
  sender: string,
  time: string,
  text: string,
  tick: Tick | undefined,
  me: string,
  place: Place,
): Row[] {
  const { columns, nameColumns } = place;
  // A narrow terminal has no room for the time.
  const start = columns < narrowColumns ? " " : ` ${fit(time, 5)}  `;
  const left = start.length + nameColumns + 2;
  const width = Math.max(4, columns - left - tickColumns - 2);
  const lines = wrap(text, width);
  const name: Span = {
    text: fit(nameOf(sender, me), nameColumns),
    ...(sender === me ? { bold: true } : { color: colorOf(sender) }),
  };
  return lines.map((line, at): Row => {
    const before: Span[] =
      at === 0 ? [{ text: start, dim: true }, name, { text: "  " }] : [{ text: " ".repeat(left) }];
    if (tick === undefined || at < lines.length - 1) return [...before, { text: line }];
    return [...before, { text: fit(line, width) }, { text: "  " }, tickSpan(tick)];
  });
}

function tickSpan(tick: Tick): Span {
  const text = tickMarks[tick];
  if (tick === "read") return { text, color: "cyan" };
  return tick === "failed" ? { text, color: "red" } : { text, dim: true };
}
