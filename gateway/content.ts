/** What a message may say. Plain text is checked in its bytes; attachments take what the upload found about them, not what the client claims. */
import { isUtf8 } from "node:buffer";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import { invalid, noConversation } from "../mesh/errors.ts";
import { ContentSchema } from "../proto/gen/parley/v1/record_pb.ts";
import type { Attachment } from "../proto/gen/parley/v1/record_pb.ts";
import type { MediaHeader, StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { isOwnDirect } from "./destination.ts";
import { bufferOf } from "./frames.ts";
import { ProtocolError, WireReader } from "./wire.ts";

const textBytesMax = 16_384;
/** Longer texts are left to the platform, which costs more to ask than to look at a short one. */
const asciiMax = 256;
const attachmentsMax = 10;
const fileNameMax = 255;
const lookUpMs = 5_000;
const mediaIdSyntax = /^[0-9a-f]{64}$/;

export interface CheckedContent {
  /** To be kept as they are, once attachments are looked up. */
  readonly bytes: Uint8Array;
  readonly replyToSeq: number;
  readonly attachments: number;
}

/** Throws INVALID_ARGUMENT where it says nothing, too much, or something that is no text. */
export function checkContent(content: Buffer | undefined): CheckedContent {
  try {
    return scan(content ?? Buffer.alloc(0));
  } catch (error) {
    if (error instanceof ProtocolError) throw invalid(`content cannot be read: ${error.message}`);
    throw error;
  }
}

/** Made once, as it is used for every message. */
const reader = new WireReader();

function scan(content: Buffer): CheckedContent {
  let textBytes = 0;
  let replyToSeq = 0;
  let attachments = 0;
  let fields = 0;
  let others = 0;
  reader.open(content, 0, content.length);
  while (reader.more()) {
    const tag = reader.tag();
    switch (tag >>> 3) {
      case 1:
        reader.span(tag);
        checkText(content, reader.from, reader.at);
        textBytes = reader.at - reader.from;
        fields |= fields & 1 ? 4 : 1;
        break;
      case 2:
        reader.span(tag);
        attachments += 1;
        break;
      case 3:
        replyToSeq = reader.uint(tag);
        fields |= fields & 2 ? 4 : 2;
        break;
      default:
        reader.skip(tag);
        others += 1;
    }
  }
  if (textBytes === 0 && attachments === 0) {
    throw invalid("the content is empty: a message has text or an attachment");
  }
  if (attachments > attachmentsMax) {
    throw invalid(`${attachments} attachments: at most ${attachmentsMax} in a message`);
  }
  const plain = others === 0 && (fields & 4) === 0;
  const bytes = plain || attachments > 0 ? content : knownFields(content);
  return { bytes, replyToSeq, attachments };
}

function checkText(content: Buffer, from: number, to: number): void {
  const length = to - from;
  if (length > textBytesMax) {
    throw invalid(`the text has ${length} bytes: at most ${textBytesMax} in a message`);
  }
  if (length <= asciiMax && isAscii(content, from, to)) return;
  if (!isUtf8(content.subarray(from, to))) throw invalid("the text is not valid UTF-8");
}

function isAscii(bytes: Buffer, from: number, to: number): boolean {
  let all = 0;
  for (let at = from; at < to; at += 1) all |= bytes[at] ?? 0;
  return all < 128;
}

/** Without what nobody knows, which would be kept for ever. */
function knownFields(content: Buffer): Uint8Array {
  return toBinary(ContentSchema, fromBinary(ContentSchema, content, { readUnknownFields: false }));
}

/** Looks attachments up among a conversation's uploads. */
export class Uploads {
  readonly #storage: Client<typeof StorageService>;

  constructor(storage: Client<typeof StorageService>) {
    this.#storage = storage;
  }

  /** The content with every attachment as its upload was found to be. Throws INVALID_ARGUMENT for one that was not uploaded there. */
  async resolve(content: Uint8Array, conversationId: string, userId: string): Promise<Uint8Array> {
    const { text, attachments, replyToSeq } = this.#decode(content);
    const known = await Promise.all(
      attachments.map((attachment) => this.#resolveOne(attachment, conversationId, userId)),
    );
    const $typeName = "parley.v1.Content";
    return toBinary(ContentSchema, { $typeName, text, attachments: known, replyToSeq });
  }

  #decode(content: Uint8Array): ReturnType<typeof fromBinary<typeof ContentSchema>> {
    try {
      return fromBinary(ContentSchema, content, { readUnknownFields: false });
    } catch (error) {
      throw invalid(`content cannot be read: ${error instanceof Error ? error.message : "?"}`);
    }
  }

  async #resolveOne(
    { mediaId, fileName }: Attachment,
    conversationId: string,
    userId: string,
  ): Promise<Attachment> {
    if (!mediaIdSyntax.test(mediaId)) {
      throw invalid("an attachment's media_id is not one that an upload answered with");
    }
    if (fileName.length > fileNameMax) {
      throw invalid(`a file_name has more than ${fileNameMax} characters`);
    }
    const header = await this.#header(conversationId, mediaId, userId);
    return {
      $typeName: "parley.v1.Attachment",
      mediaId,
      mediaType: header.mediaType,
      size: header.size,
      width: header.width,
      height: header.height,
      thumbnail: header.thumbnail,
      fileName,
    };
  }

  async #header(conversationId: string, mediaId: string, userId: string): Promise<MediaHeader> {
    const request = { conversationId, mediaId, headerOnly: true };
    try {
      const parts = this.#storage.getMedia(request, { timeoutMs: lookUpMs });
      for await (const { part } of parts) if (part.case === "header") return part.value;
    } catch (error) {
      if (ConnectError.from(error).code !== Code.NotFound) throw error;
    }
    await this.#checkMember(conversationId, userId);
    throw invalid(`attachment ${mediaId} was not uploaded to ${conversationId}`);
  }

  /** Whoever is not in a conversation is not told what was uploaded to it. */
  async #checkMember(conversationId: string, userId: string): Promise<void> {
    if (isOwnDirect(conversationId, userId)) return;
    const page = { conversationId, userId, limit: 1 };
    const { pages } = await this.#storage.read({ pages: [page] }, { timeoutMs: lookUpMs });
    if (pages[0]?.found !== true) throw noConversation(conversationId);
  }
}

/** The bytes of a decoded Content. */
export function contentBytes(
  content: Parameters<typeof toBinary<typeof ContentSchema>>[1],
): Buffer {
  return bufferOf(toBinary(ContentSchema, content));
}
