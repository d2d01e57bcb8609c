/** Uploads an image to a conversation, so that it can be sent there. */
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { fromJson } from "@bufbuild/protobuf";
import { AttachmentSchema } from "../proto/gen/parley/v1/record_pb.ts";
import type { Attachment } from "../client/index.ts";

const uploadMs = 120_000;

export async function upload(
  file: string,
  conversationId: string,
  url: string,
  token: string,
): Promise<Attachment> {
  const body = new Uint8Array(await readFile(file));
  const response = await fetch(`${url}/media?conversation=${encodeURIComponent(conversationId)}`, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/octet-stream" },
    body,
    signal: AbortSignal.timeout(uploadMs),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${basename(file)} was not taken: ${reason(text)}`);
  return {
    ...fromJson(AttachmentSchema, JSON.parse(text), { ignoreUnknownFields: true }),
    fileName: basename(file),
  };
}

function reason(text: string): string {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === "object" && parsed !== null && "message" in parsed)
      return String(parsed.message);
  } catch {
    // A proxy answers in words of its own.
  }
  return text.slice(0, 300);
}
