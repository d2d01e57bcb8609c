/** A conversation's log as operators read it: with the content only where they ask for it. */
import { fromBinary } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { invalid } from "../mesh/errors.ts";
import type { ReadLogRequest, ReadLogResponse } from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import type { StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import {
  type Record as ChatRecord,
  type Content,
  RecordSchema,
} from "../proto/gen/parley/v1/record_pb.ts";
import { answerMs } from "./asking.ts";

const limitUsual = 50;
const limitMost = 200;

export async function readLog(
  storage: Client<typeof StorageService>,
  { conversationId, afterSeq, beforeSeq, limit, content }: ReadLogRequest,
): Promise<ReadLogResponse> {
  if (conversationId === "") throw invalid("conversation_id is empty: which conversation?");
  if (limit > limitMost) throw invalid(`limit is more than ${limitMost}`);
  const page = { conversationId, afterSeq, beforeSeq, limit: limit === 0 ? limitUsual : limit };
  const answer = await storage.read({ pages: [page] }, { timeoutMs: answerMs });
  const [result] = answer.pages;
  if (result?.found !== true) throw noSuchConversation(conversationId);
  const records = result.records.map((bytes) => {
    const record = fromBinary(RecordSchema, bytes);
    return content ? record : withoutContent(record);
  });
  const $typeName = "parley.gateway.v1.ReadLogResponse";
  return { $typeName, records, headSeq: result.headSeq };
}

export const noSuchConversation = (conversationId: string): ConnectError =>
  new ConnectError(`there is no conversation ${conversationId}`, Code.NotFound);

/** Who did what when, and nothing of what was said. */
export function withoutContent(record: ChatRecord): ChatRecord {
  const { body } = record;
  switch (body.case) {
    case "message": {
      const { replyToSeq } = body.value;
      const $typeName = "parley.v1.Content";
      const value: Content = { $typeName, text: "", attachments: [], replyToSeq };
      return { ...record, body: { case: "message", value } };
    }
    case "membership": {
      const { added, removed } = body.value;
      const $typeName = "parley.v1.MembershipChange";
      return { ...record, body: { case: "membership", value: { $typeName, added, removed } } };
    }
    case "erasure":
    case undefined:
      return record;
  }
}
