/** Notifications of new messages while the page is hidden; what they say is as much as the reader allowed. */
import { signal } from "@preact/signals";
import { nameOf, saidOf } from "../ui/names.ts";
import type { Chat } from "./chat.ts";
import { prefs } from "./prefs.ts";

const supported = "Notification" in globalThis;

export const permission = signal<NotificationPermission | "unsupported">(
  supported ? Notification.permission : "unsupported",
);

/** Only from a click: browsers ask the reader. */
export async function askPermission(): Promise<void> {
  if (supported) permission.value = await Notification.requestPermission();
}

/** Gives what stops it. */
export function notifyOf(chat: Chat, show: (conversationId: string) => void): () => void {
  return chat.on((event) => {
    if (event.t !== "entry" || !document.hidden || permission.value !== "granted") return;
    const { entry } = event;
    const view = chat.conversations.peek().get(entry.conversationId);
    const seen = entry.seq <= (view?.readSeq ?? 0) || !chat.synced.peek();
    if (seen || entry.body.t !== "message" || entry.senderId === chat.me.peek()) return;
    // The first message of a conversation comes before the conversation itself.
    const group = entry.conversationId.startsWith("g:");
    const name = view === undefined ? (group ? "A group" : entry.senderId) : nameOf(view);
    const said = prefs.peek().showContent ? saidOf(entry.body) : "New message";
    // The same tag in each tab: the reader sees one.
    const tag = `${entry.conversationId}#${entry.seq}`;
    const body = group ? `${entry.senderId}: ${said}` : said;
    const notice = new Notification(name, { body, tag, icon: "./icon.svg" });
    notice.addEventListener("click", () => {
      window.focus();
      show(entry.conversationId);
      notice.close();
    });
  });
}
