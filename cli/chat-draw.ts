/** The chat's screen as rows: a pure function of the state, the time and the terminal's size. */
import { type Editor, textOf } from "./chat-editor.ts";
import {
  Calendar,
  type Row,
  type Span,
  changeText,
  colorOf,
  contentText,
  nameOf,
  names,
} from "./chat-rows.ts";
import {
  type ChatState,
  type Item,
  type Link,
  type OpenConversation,
  type Tick,
  itemsOf,
  tickMarks,
  tickOf,
  titleOf,
} from "./chat-state.ts";
import { cells, cleanLine, fit, splitGraphemes, truncate, wrap } from "./chat-text.ts";

export interface Size {
  readonly columns: number;
  readonly rows: number;
}

export interface Drawing {
  /** As many as the size has. */
  readonly rows: readonly Row[];
  readonly cursor: { readonly x: number; readonly y: number };
  /** The state's scroll, no further than there are rows. */
  readonly scroll: number;
}

const inputRowsMax = 5;
const nameColumnsMax = 14;
const tickColumns = 7;

export function draw(state: ChatState, nowMs: number, size: Size, calendar: Calendar): Drawing {
  const columns = Math.max(20, size.columns);
  const input = drawInput(state.editor, columns);
  const rule: Row = [{ text: "─".repeat(columns), dim: true }];
  const header = [drawHeader(state, nowMs, columns, calendar), rule];
  const room = Math.max(1, size.rows - header.length - 2 - input.rows.length);
  const notice = state.notice
    .flatMap((line) => wrap(cleanLine(line), columns - 2))
    .slice(0, Math.max(0, room - 1));
  const noticeRows = notice.map((text): Row => [
    { text: ` ${text}`, ...(state.notice.length === 1 ? { color: "yellow" } : {}) },
  ]);
  const bodyRows = room - noticeRows.length;
  const body =
    state.open === undefined
      ? drawList(state, nowMs, columns, bodyRows, calendar)
      : drawConversation(state, state.open, nowMs, { columns, rows: bodyRows }, calendar);
  const above = [
    ...header,
    ...body.rows,
    ...noticeRows,
    drawFoot(state, nowMs, columns, body.scroll),
    rule,
  ];
  return {
    rows: [...above, ...input.rows].slice(0, size.rows),
    cursor: { x: input.cursor.x, y: Math.min(size.rows - 1, above.length + input.cursor.y) },
    scroll: body.scroll,
  };
}

function drawHeader(state: ChatState, nowMs: number, columns: number, calendar: Calendar): Row {
  const right = linkSpan(state.link, nowMs);
  const elsewhere = state.conversations
    .filter(({ id }) => id !== state.open?.id)
    .reduce((sum, { unreadCount }) => sum + unreadCount, 0);
  const other = state.open !== undefined && elsewhere > 0 ? `${elsewhere} unread elsewhere  ` : "";
  const room = columns - cells(right.text) - cells(other) - 3;
  const [title, detail] = titleSpans(state, nowMs, calendar);
  const shownTitle = truncate(title.text, room);
  const shownDetail = fit(
    detail.text === "" ? "" : `  ${detail.text}`,
    Math.max(0, room - cells(shownTitle)),
  );
  return [
    { text: " " },
    { ...title, text: shownTitle },
    { ...detail, text: shownDetail },
    { text: " " },
    { text: other, color: "yellow" },
    right,
  ];
}

function titleSpans(state: ChatState, nowMs: number, calendar: Calendar): [Span, Span] {
  const { open, me } = state;
  if (open === undefined)
    return [{ text: `Conversations of ${cleanLine(me)}`, bold: true }, { text: "" }];
  const title: Span = { text: cleanLine(titleOf(open.view, open.id, me)), bold: true };
  if (open.view?.left === true)
    return [title, { text: "you are no longer a member", color: "red" }];
  if (open.peerId !== undefined) return [title, presenceSpan(state, open.peerId, nowMs, calendar)];
  const others = open.members.filter((user) => user !== me);
  const online = others.filter((user) => state.presences.get(user)?.online === true);
  const count = open.view?.memberCount ?? open.members.length;
  const who = online.length === 0 ? "nobody else online" : `online: ${names(online, me)}`;
  return [title, { text: count === 0 ? "" : `${count} members · ${who}`, dim: true }];
}

function presenceSpan(state: ChatState, user: string, nowMs: number, calendar: Calendar): Span {
  const seen = state.presences.get(user);
  if (seen === undefined || user === state.me) return { text: "" };
  if (seen.online) return { text: "● online", color: "green" };
  if (seen.lastSeenMs === 0) return { text: "○ offline", dim: true };
  const day = calendar.brief(seen.lastSeenMs, nowMs);
  return {
    text: `○ last seen ${/^\d\d:/.test(day) ? day : `${day} ${calendar.time(seen.lastSeenMs)}`}`,
    dim: true,
  };
}

function linkSpan(link: Link, nowMs: number): Span {
  switch (link.t) {
    case "live":
      return { text: liveTexts[link.transport], dim: true };
    case "connecting":
      return { text: "connecting… ", color: "yellow" };
    case "waiting":
      return {
        text: `reconnecting in ${Math.max(1, Math.ceil((link.untilMs - nowMs) / 1_000))} s `,
        color: "yellow",
      };
    case "stopped":
      return { text: "not connected ", color: "red" };
  }
}

/** Over long polls nobody is seen coming, going or typing. */
const liveTexts: Record<(Link & { t: "live" })["transport"], string> = {
  websocket: "connected ",
  connect: "connected (stream) ",
  poll: "connected (polling) ",
};

interface Body {
  readonly rows: Row[];
  readonly scroll: number;
}

function drawList(
  state: ChatState,
  nowMs: number,
  columns: number,
  rows: number,
  calendar: Calendar,
): Body {
  if (state.conversations.length === 0) {
    const text =
      state.link.t === "live"
        ? [
            "No conversations yet.",
            "/with USER begins one, /group TITLE USER… makes a group, /help lists all.",
          ]
        : ["Looking for your conversations…"];
    return {
      rows: padded(
        text.map((line): Row => [{ text: ` ${truncate(line, columns - 1)}`, dim: true }]),
        rows,
        "below",
      ),
      scroll: 0,
    };
  }
  const selected = Math.min(state.selected, state.conversations.length - 1);
  const from = Math.max(
    0,
    Math.min(selected - Math.floor(rows / 2), state.conversations.length - rows),
  );
  const nameColumns = Math.max(8, Math.min(32, columns - 44));
  const lines = state.conversations.slice(from, from + rows).map((view, at): Row => {
    const chosen = from + at === selected;
    const name = cleanLine(titleOf(view, view.id, state.me));
    const unread = view.unreadCount > 0 ? `${view.unreadCount} unread` : "";
    const when = view.headTimeMs > 0 ? calendar.brief(view.headTimeMs, nowMs) : "";
    const presence: Span =
      view.peerId === undefined
        ? { text: view.left ? "left" : `${view.memberCount} members`, dim: true }
        : presenceSpan(state, view.peerId, nowMs, calendar);
    return [
      { text: chosen ? " ▸ " : "   ", color: "cyan" },
      { text: `${String(from + at + 1).padStart(2)}  `, dim: true },
      { text: fit(name, nameColumns), ...(view.unreadCount > 0 || chosen ? { bold: true } : {}) },
      { text: "  " },
      { text: fit(unread, 11), color: "yellow" },
      {
        ...presence,
        text: fit(presence.text, Math.max(0, Math.min(24, columns - nameColumns - 34))),
      },
      { text: truncate(`  ${when}`, 14), dim: true },
    ];
  });
  return { rows: padded(lines, rows, "below"), scroll: 0 };
}

function drawConversation(
  state: ChatState,
  open: OpenConversation,
  nowMs: number,
  size: Size,
  calendar: Calendar,
): Body {
  const items = itemsOf(open, state.me, (timeMs) => calendar.key(timeMs));
  if (items.length === 0) {
    const { peerId } = open;
    const text =
      open.loading || state.link.t !== "live"
        ? "…"
        : peerId === undefined
          ? "Nothing here yet."
          : `Say hello to ${cleanLine(peerId)}.`;
    return { rows: padded([[{ text: ` ${text}`, dim: true }]], size.rows, "above"), scroll: 0 };
  }
  const nameColumns = nameWidth(items, state.me);
  // From the newest up, no further than what is shown.
  const rows: Row[] = [];
  const wanted = size.rows + state.scroll;
  for (let at = items.length - 1; at >= 0 && rows.length < wanted; at -= 1) {
    const item = items[at];
    if (item !== undefined)
      rows.unshift(
        ...drawItem(item, state, open, { nowMs, columns: size.columns, nameColumns, calendar }),
      );
  }
  const scroll = Math.max(0, Math.min(state.scroll, rows.length - size.rows));
  const end = rows.length - scroll;
  return {
    rows: padded(rows.slice(Math.max(0, end - size.rows), end), size.rows, "above"),
    scroll,
  };
}

function nameWidth(items: readonly Item[], me: string): number {
  let width = 3;
  for (const item of items) {
    if (item.t === "record") width = Math.max(width, cells(nameOf(item.record.senderId, me)));
  }
  return Math.min(width, nameColumnsMax);
}

interface Place {
  readonly nowMs: number;
  readonly columns: number;
  readonly nameColumns: number;
  readonly calendar: Calendar;
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
  const left = 1 + 5 + 2 + nameColumns + 2;
  const width = Math.max(8, columns - left - tickColumns - 2);
  const lines = wrap(text, width);
  const name: Span = {
    text: fit(nameOf(sender, me), nameColumns),
    ...(sender === me ? { bold: true } : { color: colorOf(sender) }),
  };
  return lines.map((line, at): Row => {
    const start: Span[] =
      at === 0
        ? [{ text: ` ${fit(time, 5)}  `, dim: true }, name, { text: "  " }]
        : [{ text: " ".repeat(left) }];
    if (tick === undefined || at < lines.length - 1) return [...start, { text: line }];
    return [...start, { text: fit(line, width) }, { text: "  " }, tickSpan(tick)];
  });
}

function tickSpan(tick: Tick): Span {
  const text = tickMarks[tick];
  if (tick === "read") return { text, color: "cyan" };
  return tick === "failed" ? { text, color: "red" } : { text, dim: true };
}

function drawFoot(state: ChatState, nowMs: number, columns: number, scroll: number): Row {
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

function padded(rows: Row[], count: number, where: "above" | "below"): Row[] {
  const shown = rows.slice(0, count);
  const blank = Array.from({ length: count - shown.length }, (): Row => [{ text: " " }]);
  return where === "above" ? [...blank, ...shown] : [...shown, ...blank];
}
