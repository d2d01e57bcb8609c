/** Who shares a conversation with whom. */
import { Kind } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { isPresent } from "./history.ts";
import { directId } from "../mesh/ids.ts";
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
  let lookups = 0;
  async function presentIn(conversationId: string, userIds: readonly string[]): Promise<boolean[]> {
    lookups += userIds.length;
    if (lookups > lookupsATurn) {
      lookups = 0;
      await turn();
    }
    return (await store.members(conversationId, userIds)).map(isPresent);
  }

  const found = new Set<string>();
  for (const other of new Set(otherUserIds)) {
    const present = await presentIn(directId(userId, other), [userId, other]);
    if (present.every(Boolean)) found.add(other);
  }
  const rows = await store.index(userId);
  for (const { conversationId, state, member } of rows) {
    if (state?.kind === Kind.DIRECT || !isPresent(member)) continue;
    const left = otherUserIds.filter((other) => !found.has(other));
    if (left.length === 0) break;
    const present = await presentIn(conversationId, left);
    for (const [index, other] of left.entries()) if (present[index] === true) found.add(other);
  }
  return otherUserIds.filter((other) => found.has(other));
}
