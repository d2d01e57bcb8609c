/** The list of conversations on the chat's screen. Pure. */
import { presenceSpan } from "./chat-draw-header.ts";
import type { Frame, Row, Span } from "./chat-rows.ts";
import { type ChatState, titleOf } from "./chat-state.ts";
import { cleanLine, fit, truncate } from "./chat-text.ts";

/** At most as many rows as the frame has. */
export function drawList(state: ChatState, frame: Frame): Row[] {
  const { columns, rows, nowMs, calendar } = frame;
  if (state.conversations.length === 0) {
    const text =
      state.link.t === "live"
        ? [
            "No conversations yet.",
            "/with USER begins one, /group TITLE USER… makes a group, /help lists all.",
          ]
        : ["Looking for your conversations…"];
    return text.map((line): Row => [{ text: ` ${truncate(line, columns - 1)}`, dim: true }]);
  }
  const selected = Math.min(state.selected, state.conversations.length - 1);
  const from = Math.max(
    0,
    Math.min(selected - Math.floor(rows / 2), state.conversations.length - rows),
  );
  const nameColumns = Math.max(8, Math.min(32, columns - 44));
  return state.conversations.slice(from, from + rows).map((view, at): Row => {
    const chosen = from + at === selected;
    const name = cleanLine(titleOf(view, view.id, state.me));
    const unread = view.unreadCount > 0 ? `${view.unreadCount} unread` : "";
    const when = view.headTimeMs > 0 ? calendar.brief(view.headTimeMs, nowMs) : "";
    const presence: Span =
      view.peerId === undefined
        ? { text: view.left ? "left" : `${view.memberCount} members`, dim: true }
        : presenceSpan(state, view.peerId, frame);
    return [
      { text: chosen ? " ▸ " : "   ", color: "cyan" },
      { text: `${String(from + at + 1).padStart(2)}  `, dim: true },
      { text: fit(name, nameColumns), ...(view.unreadCount > 0 || chosen ? { bold: true } : {}) },
      { text: "  " },
      { text: fit(unread, 12), color: "yellow" },
      {
        ...presence,
        text: fit(presence.text, Math.max(0, Math.min(24, columns - nameColumns - 35))),
      },
      { text: truncate(`  ${when}`, 14), dim: true },
    ];
  });
}
