/** What a conversation's id says: `d:alice:bob` names both users of a direct conversation in order, `g:…` a group by who made it and the client_id. */
import { invalid } from "../mesh/errors.ts";
import { directUsers, isUserId } from "../mesh/ids.ts";
import { Kind } from "../proto/gen/parley/storage/v1/storage_pb.ts";

const groupIdSyntax = /^g:[A-Za-z0-9_-]{22}$/;

export function checkUserId(userId: string): void {
  if (!isUserId(userId)) {
    throw invalid(`"${userId.slice(0, 140)}" is no user id: use 1 to 128 of A-Z a-z 0-9 . _ @ -`);
  }
}

export function kindOf(conversationId: string): Kind {
  if (groupIdSyntax.test(conversationId)) return Kind.GROUP;
  return directUsers(conversationId) === undefined ? Kind.UNSPECIFIED : Kind.DIRECT;
}
