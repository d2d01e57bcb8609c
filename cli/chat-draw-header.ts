/** The first row of the chat's screen: where one is, who is online, how the connection is. Pure. */
import { type Frame, type Row, type Span, names } from "./chat-rows.ts";
import { type ChatState, type Link, titleOf } from "./chat-state.ts";
import { cells, cleanLine, fit, truncate } from "./chat-text.ts";

export function drawHeader(state: ChatState, frame: Frame): Row {
  const { columns, nowMs } = frame;
  const right = linkSpan(state.link, nowMs);
  const elsewhere = state.conversations
    .filter(({ id }) => id !== state.open?.id)
    .reduce((sum, { unreadCount }) => sum + unreadCount, 0);
  const other = state.open !== undefined && elsewhere > 0 ? `${elsewhere} unread elsewhere  ` : "";
  const room = columns - cells(right.text) - cells(other) - 3;
  const [title, detail] = titleSpans(state, frame);
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

function titleSpans(state: ChatState, frame: Frame): [Span, Span] {
  const { open, me } = state;
  if (open === undefined)
    return [{ text: `Conversations of ${cleanLine(me)}`, bold: true }, { text: "" }];
  const title: Span = { text: cleanLine(titleOf(open.view, open.id, me)), bold: true };
  if (open.view?.left === true)
    return [title, { text: "you are no longer a member", color: "red" }];
  if (open.peerId !== undefined) return [title, presenceSpan(state, open.peerId, frame)];
  const others = open.members.filter((user) => user !== me);
  const online = others.filter((user) => state.presences.get(user)?.online === true);
  const count = open.view?.memberCount ?? open.members.length;
  const who = online.length === 0 ? "nobody else online" : `online: ${names(online, me)}`;
  return [title, { text: count === 0 ? "" : `${count} members · ${who}`, dim: true }];
}

export function presenceSpan(state: ChatState, user: string, frame: Frame): Span {
  const { calendar, nowMs } = frame;
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
