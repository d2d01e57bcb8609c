/** ChatService's calls as functions: each builds its request and takes the answer that belongs to it. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  CreateGroupRequestSchema,
  HistoryRequestSchema,
  ListMembersRequestSchema,
  SyncRequestSchema,
  UpdateGroupRequestSchema,
  WatchPresenceRequestSchema,
  type CreateGroupResponse,
  type HistoryResponse,
  type ListMembersResponse,
  type SyncResponse,
  type UpdateGroupResponse,
  type WatchPresenceResponse,
} from "../proto/gen/parley/v1/chat_pb.ts";
import type { Presence } from "../proto/gen/parley/v1/record_pb.ts";
import type { Calls } from "./calls.ts";
import type { Ask } from "./frames.ts";

export function sync(
  calls: Calls,
  init: MessageInitShape<typeof SyncRequestSchema>,
): Promise<SyncResponse> {
  const value = create(SyncRequestSchema, init);
  return calls.call({ case: "sync", value }, (answer) =>
    answer.case === "sync" ? answer.value : undefined,
  );
}

export function history(
  calls: Calls,
  init: MessageInitShape<typeof HistoryRequestSchema>,
  /** Hears, in its place among the pushes, where the server's history begins now. */
  told?: { floor(conversationId: string, floorSeq: number): void },
): Promise<HistoryResponse> {
  const value = create(HistoryRequestSchema, init);
  return calls.call({ case: "history", value }, (answer) => {
    if (answer.case !== "history") return undefined;
    told?.floor(value.conversationId, answer.value.floorSeq);
    return answer.value;
  });
}

export function listMembers(
  calls: Calls,
  init: MessageInitShape<typeof ListMembersRequestSchema>,
): Promise<ListMembersResponse> {
  const value = create(ListMembersRequestSchema, init);
  return calls.call({ case: "listMembers", value }, (answer) =>
    answer.case === "listMembers" ? answer.value : undefined,
  );
}

export function createGroup(
  calls: Calls,
  init: MessageInitShape<typeof CreateGroupRequestSchema>,
): Promise<CreateGroupResponse> {
  const value = create(CreateGroupRequestSchema, init);
  return calls.call({ case: "createGroup", value }, (answer) =>
    answer.case === "createGroup" ? answer.value : undefined,
  );
}

export function updateGroup(
  calls: Calls,
  init: MessageInitShape<typeof UpdateGroupRequestSchema>,
): Promise<UpdateGroupResponse> {
  const value = create(UpdateGroupRequestSchema, init);
  return calls.call(
    { case: "updateGroup", value },
    (answer) => (answer.case === "updateGroup" ? answer.value : undefined),
    () => ({ case: "updateGroup", value: { ...value, retry: true } }),
  );
}

export function watchPresence(
  calls: Calls,
  userIds: readonly string[],
  /** Whom another try asks about: what was wanted since must not be undone by it. */
  latest: () => string[],
  /** Takes the answer in its place among the pushes. */
  heard: (presences: readonly Presence[]) => void,
): Promise<WatchPresenceResponse> {
  const about = (userIds: string[]): Ask => ({
    case: "watchPresence",
    value: create(WatchPresenceRequestSchema, { userIds }),
  });
  return calls.call(
    about([...userIds]),
    (answer) => {
      if (answer.case !== "watchPresence") return undefined;
      heard(answer.value.presences);
      return answer.value;
    },
    () => about(latest()),
  );
}
