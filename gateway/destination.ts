/** Where a message goes. Pure. */
import { invalid } from "../mesh/errors.ts";
import { directId, directUsers, isUserId } from "../mesh/ids.ts";

/** Two user ids and what is between them. */
const conversationIdMax = 259;

export function checkConversationId(conversationId: string): void {
  if (conversationId === "") throw invalid("conversation_id is empty: say which conversation");
  if (conversationId.length > conversationIdMax) {
    throw invalid(`conversation_id has more than ${conversationIdMax} characters`);
  }
}

/** The conversation that a send is for. One of the two ids is set. */
export function destination(callerId: string, conversationId: string, userId: string): string {
  if (userId === "") {
    if (conversationId === "") throw invalid("set conversation_id or user_id: to whom?");
    checkConversationId(conversationId);
    return conversationId;
  }
  if (!isUserId(userId)) {
    throw invalid("user_id must be 1 to 128 of A-Z a-z 0-9 . _ @ -");
  }
  if (userId === callerId) throw invalid("user_id is your own: nobody writes to oneself");
  return directId(callerId, userId);
}

/** Whether the id is that of a direct conversation of this user, begun or not. */
export function isOwnDirect(conversationId: string, userId: string): boolean {
  return directUsers(conversationId)?.includes(userId) ?? false;
}
