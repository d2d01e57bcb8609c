/** A user who is erased: what the owner of a conversation does about it, and how others are refused. */
import { create, toBinary } from "@bufbuild/protobuf";
import type { Client, ConnectError } from "@connectrpc/connect";
import { invalid, noConversation, notAllowed } from "../mesh/errors.ts";
import { directUsers } from "../mesh/ids.ts";
import type { EraseMemberRequest } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { ErasureSchema, type SeqRange } from "../proto/gen/parley/v1/record_pb.ts";
import type { StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import type { Conversation } from "./conversation.ts";
import type { Draft } from "./draft.ts";
import type { MembershipChange } from "./record.ts";

const rangesMax = 10_000;
/** Ranges in one record: a few kilobytes. */
const recordRanges = 500;
const readMs = 30_000;

export const erasedUser = (): ConnectError =>
  notAllowed("the user has left for good and their data were erased: nobody can write to them");

/** Users who come into a group must not be erased. */
export async function checkPresent(
  storage: Client<typeof StorageService>,
  userIds: readonly string[],
): Promise<void> {
  if (userIds.length === 0) return;
  const found = await storage.filterErased({ userIds: [...userIds] }, { timeoutMs: readMs });
  if (found.userIds.length > 0) throw erasedUser();
}

export function checkErase({ userId, erased }: EraseMemberRequest): void {
  if (userId === "") throw invalid("the user is missing");
  if (erased.length > rangesMax) throw invalid(`more than ${rangesMax} ranges`);
}

/** The change by which the user leaves; undefined: they are gone. */
export function leaving(conversation: Conversation, userId: string): MembershipChange | undefined {
  const users = directUsers(conversation.id);
  if (users !== undefined) {
    if (!users.includes(userId)) throw noConversation(conversation.id);
    conversation.erase(userId);
    return undefined;
  }
  if (conversation.members.get(userId)?.leftSeq !== 0) return undefined;
  return { added: [], removed: [userId], title: undefined };
}

/** Puts into the draft what tells the members' devices to forget those records. */
export function tell(
  conversation: Conversation,
  draft: Draft,
  ranges: readonly SeqRange[],
  nowMs: number,
): void {
  for (let at = 0; at < ranges.length; at += recordRanges) {
    const erasure = create(ErasureSchema, { ranges: ranges.slice(at, at + recordRanges) });
    const cell = conversation.tellErased(toBinary(ErasureSchema, erasure), nowMs);
    draft.take(cell, "", conversation.audience);
  }
}
