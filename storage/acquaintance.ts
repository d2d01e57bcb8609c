/** Who shares a conversation with whom. */
import { isPresent } from "./history.ts";
import { directId, directUsers } from "../mesh/ids.ts";
import type { Store } from "./ports.ts";

/** So many lookups in one turn of the event loop. */
const lookupsATurn = 500;

/**
 * Those of the others who share a conversation with the user, both being members now, in the order asked. `turn` lets
 * others have their turn.
 */
export async function acquaintedOf(
  store: Store,
  userId: string,
  otherUserIds: readonly string[],
  turn: () => Promise<void>,
): Promise<string[]> {
  const conversations = new Set(await store.memberOf(userId));
  // Nobody leaves a direct conversation.
  const found = new Set(otherUserIds.filter((other) => conversations.has(directId(userId, other))));
  let lookups = 0;
  for (const conversationId of conversations) {
    if (directUsers(conversationId) !== undefined) continue;
    const left = otherUserIds.filter((other) => !found.has(other));
    if (left.length === 0) break;
    lookups += left.length;
    if (lookups > lookupsATurn) {
      lookups = 0;
      await turn();
    }
    const members = await store.members(conversationId, left);
    for (const [at, other] of left.entries()) if (isPresent(members[at])) found.add(other);
  }
  return otherUserIds.filter((other) => found.has(other));
}
