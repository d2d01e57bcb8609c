/** What conversations and their entries are called in words. */
import type { ConversationView, Entry, MembersBody, MessageBody } from "../session.ts";

export function nameOf(view: ConversationView): string {
  if (view.kind === "direct") return view.peerId ?? view.id;
  return view.title === "" ? "A group" : view.title;
}

/** One line for the list. */
export function summaryOf(entry: Entry, view: ConversationView, me: string): string {
  if (entry.body.t !== "message") return noticeText(entry, entry.body, me);
  const said = saidOf(entry.body);
  return view.kind === "group" && entry.senderId !== me ? `${entry.senderId}: ${said}` : said;
}

export function saidOf(body: MessageBody): string {
  const text = body.text.replaceAll(/\s+/gu, " ").trim().slice(0, 200);
  const { length } = body.attachments;
  if (text !== "") return text;
  return length === 1 ? "Photo" : `${length} photos`;
}

/** What stands between messages. */
export function noticeText(
  entry: Entry,
  body: Exclude<Entry["body"], MessageBody>,
  me: string,
): string {
  switch (body.t) {
    case "members":
      return changeText(entry, body, me);
    case "erased":
      return "Erased: its sender has left for good";
    case "erasure":
      return "Messages of somebody who has left for good were erased";
  }
}

/** Who came, who went, what the group is called now. */
export function changeText(entry: Entry, body: MembersBody, me: string): string {
  const { added, removed, title } = body;
  const by = entry.senderId === me ? "You" : entry.senderId;
  const who = (users: readonly string[]): string =>
    new Intl.ListFormat("en").format(
      users.map((user) => (user === me ? "you" : user)).slice(0, 20),
    );
  const parts: string[] = [];
  const newcomers = added.filter((user) => user !== entry.senderId);
  if (entry.seq === 1 && title !== undefined) parts.push(`${by} created “${title}”`);
  else if (title !== undefined) parts.push(`${by} renamed the group to “${title}”`);
  if (newcomers.length > 0 && entry.seq > 1) parts.push(`${by} added ${who(newcomers)}`);
  else if (newcomers.length > 0) parts.push(`with ${who(newcomers)}`);
  if (removed.includes(entry.senderId)) parts.push(`${by} left`);
  const others = removed.filter((user) => user !== entry.senderId);
  if (others.length > 0) parts.push(`${by} removed ${who(others)}`);
  return parts.length === 0 ? "Something that this page does not know yet" : parts.join(" ");
}
