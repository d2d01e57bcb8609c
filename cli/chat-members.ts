/** Who is in a conversation, and how far each has got and read: what `/members` prints. */
import type { Cursor } from "../client/index.ts";
import { nameOf } from "./chat-rows.ts";
import type { ChatSdk } from "./chat-sdk.ts";
import type { ChatState } from "./chat-state.ts";

const shownMax = 100;

export async function memberLines(
  sdk: ChatSdk,
  conversation: string,
  state: ChatState,
): Promise<string[]> {
  const { members, nextPageToken } = await sdk.listMembers(conversation, { limit: shownMax });
  const head = sdk.conversation(conversation)?.headSeq ?? 0;
  const lines = members.map((cursor) => memberLine(cursor, head, state));
  const count = sdk.conversation(conversation)?.memberCount ?? members.length;
  return nextPageToken === ""
    ? lines
    : [...lines, `and ${Math.max(0, count - members.length)} more`];
}

export function memberLine(cursor: Cursor, headSeq: number, state: ChatState): string {
  const { userId, deliveredSeq, readSeq } = cursor;
  const name = nameOf(userId, state.me).padEnd(16);
  const online =
    userId !== state.me && state.presences.get(userId)?.online === true ? "   ● online" : "";
  if (readSeq >= headSeq) return `${name} ✓✓ has read everything${online}`;
  if (deliveredSeq === 0) return `${name} ✓  has got nothing yet${online}`;
  const got =
    deliveredSeq >= headSeq ? "✓✓ has got everything" : `✓  has got #${deliveredSeq} of ${headSeq}`;
  return `${name} ${got}, has read ${readSeq === 0 ? "nothing" : `up to #${readSeq}`}${online}`;
}
