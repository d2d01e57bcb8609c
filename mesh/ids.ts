/** How ids are spelt, wherever they are read or made: users, the direct conversation of two users, groups. */
import { createHash } from "node:crypto";

const userIdSyntax = /^[A-Za-z0-9._@-]{1,128}$/;

export function isUserId(text: string): boolean {
  return userIdSyntax.test(text);
}

/** The direct conversation of two users, whose id is the same for both. */
export function directId(one: string, other: string): string {
  return one < other ? `d:${one}:${other}` : `d:${other}:${one}`;
}

/** The two users of a direct conversation, or undefined where the id names none. */
export function directUsers(conversationId: string): readonly [string, string] | undefined {
  const [kind, one = "", other = "", ...rest] = conversationId.split(":");
  if (kind !== "d" || rest.length > 0 || one >= other) return undefined;
  return isUserId(one) && isUserId(other) ? [one, other] : undefined;
}

/** The same for every try of one creation. */
export function groupId(creatorId: string, clientId: Uint8Array): string {
  const hash = createHash("sha256").update(creatorId).update("\0").update(clientId).digest();
  return "g:" + hash.subarray(0, 16).toString("base64url");
}
