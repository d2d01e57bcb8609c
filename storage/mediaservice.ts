/** The handlers for media: bytes by their hash, found only through a conversation that they were uploaded to. */
import { invalid } from "../mesh/errors.ts";
import type {
  GetMediaRequest,
  GetMediaResponse,
  MediaHeader,
  PutMediaRequest,
  PutMediaResponse,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { noMedia } from "./errors.ts";
import type { MediaStore, Store } from "./ports.ts";
import { malformedId } from "./shape.ts";

const chunkBytesMax = 65_536;
const sizeMax = 0xffff_ffff;

export async function putMedia(
  store: Store,
  media: MediaStore,
  requests: AsyncIterable<PutMediaRequest>,
): Promise<PutMediaResponse> {
  const parts = requests[Symbol.asyncIterator]();
  const first = await parts.next();
  const { part, uploaderId = "" } = first.done === true ? {} : first.value;
  if (part?.case !== "header") throw invalid("the first message of an upload must be its header");
  const wrong = malformedId("conversation id", part.value.conversationId);
  if (wrong !== undefined) throw invalid(wrong);
  const { mediaId, size } = await media.put(chunksOf(parts));
  const header: MediaHeader = { ...part.value, mediaId, size };
  await store.putMedia(header, uploaderId);
  return { $typeName: "parley.storage.v1.PutMediaResponse", header };
}

async function* chunksOf(parts: AsyncIterator<PutMediaRequest>): AsyncGenerator<Uint8Array, void> {
  let size = 0;
  for (let next = await parts.next(); next.done !== true; next = await parts.next()) {
    const { part } = next.value;
    if (part.case !== "chunk") throw invalid("after an upload's header come chunks alone");
    if (part.value.length > chunkBytesMax) {
      throw invalid(`a chunk has ${part.value.length} bytes: at most ${chunkBytesMax} are allowed`);
    }
    size += part.value.length;
    if (size > sizeMax) throw invalid(`a medium has at most ${sizeMax} bytes`);
    yield part.value;
  }
  if (size === 0) throw invalid("the upload has no bytes");
}

export async function* getMedia(
  store: Store,
  media: MediaStore,
  { conversationId, mediaId, offset, length, headerOnly }: GetMediaRequest,
): AsyncGenerator<GetMediaResponse, void> {
  const header = await store.media(conversationId, mediaId);
  if (header === undefined) throw noMedia(mediaId);
  const $typeName = "parley.storage.v1.GetMediaResponse";
  yield { $typeName, part: { case: "header", value: header } };
  if (headerOnly) return;
  const wanted = length === 0 ? header.size - offset : Math.min(length, header.size - offset);
  for await (const chunk of media.get(mediaId, offset, wanted)) {
    yield { $typeName, part: { case: "chunk", value: chunk } };
  }
}

/** A user's media go from a conversation, and their bytes where nobody else has them. Answers how many were there. */
export async function removeMedia(
  store: Store,
  media: MediaStore,
  conversationId: string,
  userId: string,
  mediaIds: readonly string[],
): Promise<number> {
  let removed = 0;
  for (const use of await store.usesOf(conversationId, userId, mediaIds)) {
    if (!use.elsewhere) await media.remove(use.mediaId);
    await store.removeUpload(conversationId, use.mediaId, userId, !use.others);
    if (use.there) removed += 1;
  }
  return removed;
}
