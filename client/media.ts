/** Images: uploaded to a conversation before they are sent, fetched from it by its members. */
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { codeFromString } from "@connectrpc/connect/protocol-connect";
import { AttachmentSchema, type Attachment } from "../proto/gen/parley/v1/record_pb.ts";
import type { ClientClock } from "./surroundings.ts";

export interface MediaSettings {
  readonly baseUrl: string;
  readonly fetch: typeof globalThis.fetch;
  readonly token: () => Promise<string>;
  readonly clock: ClientClock;
}

const uploadMs = 120_000;
const fetchMs = 60_000;

/** Gives what a message's content is to carry. Rejects with a ConnectError: nothing is tried again by itself. */
export async function uploadMedia(
  settings: MediaSettings,
  conversation: string,
  bytes: Uint8Array<ArrayBuffer> | Blob,
  fileName: string,
): Promise<Attachment> {
  const url = `${settings.baseUrl}/media?conversation=${encodeURIComponent(conversation)}`;
  const response = await ask(settings, url, uploadMs, { method: "POST", body: bytes });
  const attachment = fromJson(AttachmentSchema, await jsonOf(response), {
    ignoreUnknownFields: true,
  });
  attachment.fileName = fileName;
  return attachment;
}

/** The bytes of an attachment, as a response of which the app reads as much as it wants. */
export function fetchMedia(
  settings: MediaSettings,
  conversation: string,
  mediaId: string,
): Promise<Response> {
  const path = [conversation, mediaId].map(encodeURIComponent).join("/");
  return ask(settings, `${settings.baseUrl}/media/${path}`, fetchMs, { method: "GET" });
}

async function ask(
  settings: MediaSettings,
  url: string,
  timeoutMs: number,
  init: { method: string; body?: Uint8Array<ArrayBuffer> | Blob },
): Promise<Response> {
  const headers = { authorization: `Bearer ${await settings.token()}` };
  const abort = new AbortController();
  const cancel = settings.clock.after(timeoutMs, () => abort.abort());
  let response: Response;
  try {
    response = await settings.fetch(url, { ...init, headers, signal: abort.signal });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ConnectError(why, Code.Unavailable, undefined, undefined, error);
  } finally {
    cancel();
  }
  if (response.ok) return response;
  throw await errorFrom(response);
}

async function errorFrom(response: Response): Promise<ConnectError> {
  const text = await response.text();
  try {
    const said: unknown = JSON.parse(text);
    if (typeof said === "object" && said !== null && "code" in said && "message" in said) {
      const code = codeFromString(String(said.code)) ?? Code.Unknown;
      return new ConnectError(String(said.message), code, response.headers);
    }
  } catch {
    // Not ours: whatever stands between answered.
  }
  return new ConnectError(`HTTP ${response.status}`, Code.Unavailable, response.headers);
}

async function jsonOf(response: Response): Promise<JsonValue> {
  const value: unknown = await response.json();
  if (isJson(value)) return value;
  throw new ConnectError("the answer is no JSON", Code.Internal);
}

function isJson(value: unknown): value is JsonValue {
  return value !== undefined;
}
