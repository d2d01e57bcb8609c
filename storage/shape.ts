/** What a write must look like, whatever is kept: bounds of its ids, which become keys. */
import type { ConversationWrite } from "../proto/gen/parley/storage/v1/storage_pb.ts";

const idCharactersMax = 512;

/** Why a text cannot be part of a key, or undefined where it can. */
export function malformedId(what: string, id: string): string | undefined {
  if (id === "") return `the ${what} is missing`;
  if (id.length > idCharactersMax) {
    return `the ${what} has ${id.length} characters: at most ${idCharactersMax} are allowed`;
  }
  return id.includes("\0") ? `the ${what} has a zero character` : undefined;
}

/** Why a write can never be kept, or undefined where it may be. */
export function malformed(write: ConversationWrite): string | undefined {
  const { conversationId, cells, state, members } = write;
  const reason = malformedId("conversation id", conversationId);
  if (reason !== undefined) return reason;
  for (const { userId } of members) {
    const wrong = malformedId("user id", userId);
    if (wrong !== undefined) return `${conversationId}: ${wrong}`;
  }
  const begins = cells[0]?.seq ?? state?.headSeq ?? 1;
  return begins < 1 ? `${conversationId}: a log begins with seq 1` : undefined;
}
