/** What may change in a group, and by whom. Pure. */
import { type Conversation, membersMax } from "./conversation.ts";
import { checkUserId } from "./ids.ts";
import type { MembershipChange } from "./record.ts";
import { invalid, notAllowed } from "../mesh/errors.ts";
import type { CreateGroupRequest, UpdateGroupRequest } from "../proto/gen/parley/v1/chat_pb.ts";
import { Kind } from "../proto/gen/parley/storage/v1/storage_pb.ts";

const titleMax = 200;

export function checkClientId(clientId: Uint8Array): void {
  if (clientId.length !== 16)
    throw invalid(`client_id has ${clientId.length} bytes: send 16 random ones`);
}

function checkTitle(title: string): void {
  const length = [...title].length;
  if (length < 1 || length > titleMax)
    throw invalid(`the title has ${length} characters: use 1 to ${titleMax}`);
}

function checkMembers(userIds: readonly string[]): void {
  const seen = new Set<string>();
  for (const userId of userIds) {
    checkUserId(userId);
    if (seen.has(userId)) throw invalid(`${userId} is named twice`);
    seen.add(userId);
  }
}

function checkCount(count: number): void {
  if (count > membersMax) throw invalid(`a group has at most ${membersMax} members, not ${count}`);
}

/** The first record of a group. */
export function creation(userId: string, request: CreateGroupRequest): MembershipChange {
  checkClientId(request.clientId);
  checkTitle(request.title);
  checkCount(request.memberIds.length + 1);
  checkMembers(request.memberIds);
  if (request.memberIds.includes(userId))
    throw invalid("you are a member already: name only the others");
  return { added: [userId, ...request.memberIds], removed: [], title: request.title };
}

/** What really changes; undefined: all of it is so already (another try, or somebody else was faster). */
export function update(
  conversation: Conversation,
  userId: string,
  request: UpdateGroupRequest,
): MembershipChange | undefined {
  conversation.present(userId);
  if (conversation.kind !== Kind.GROUP)
    throw notAllowed("a direct conversation has two members and no title");
  checkClientId(request.clientId);
  checkMembers(request.addMemberIds);
  checkMembers(request.removeMemberIds);
  if (request.title !== undefined) checkTitle(request.title);
  const both = request.addMemberIds.find((id) => request.removeMemberIds.includes(id));
  if (both !== undefined) throw invalid(`${both} cannot be added and removed at once`);
  const isMember = (id: string): boolean => conversation.members.get(id)?.leftSeq === 0;
  const added = request.addMemberIds.filter((id) => !isMember(id));
  const removed = request.removeMemberIds.filter(isMember);
  const title = request.title === conversation.title ? undefined : request.title;
  checkCount(conversation.memberCount + added.length - removed.length);
  if (added.length === 0 && removed.length === 0 && title === undefined) return undefined;
  return { added, removed, title };
}
