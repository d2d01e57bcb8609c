/** Plain requests to the edge, as curl makes them. */
import { request } from "node:http";
import type { IncomingMessage } from "node:http";
import { tokenFor } from "./parley.ts";

export interface Said {
  readonly status: number;
  readonly code: string;
  readonly message: string;
  readonly headers: Headers;
  readonly text: string;
}

async function said(response: Response): Promise<Said> {
  const text = await response.text();
  const { status, headers } = response;
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return { status, code: "", message: text, headers, text };
  }
  const fields = typeof parsed === "object" && parsed !== null ? parsed : {};
  const code = "code" in fields ? String(fields.code) : "";
  const message = "message" in fields ? String(fields.message) : "";
  return { status, code, message, headers, text };
}

/** A unary call of ChatService: JSON of an object, or the bytes as they are. */
export async function postCall(
  url: string,
  token: string | undefined,
  method: string,
  body: object | Uint8Array<ArrayBuffer> | string,
  contentType = body instanceof Uint8Array ? "application/proto" : "application/json",
): Promise<Said> {
  const response = await fetch(`${url}/parley.v1.ChatService/${method}`, {
    method: "POST",
    headers: {
      "Content-Type": contentType,
      ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
    },
    body: body instanceof Uint8Array || typeof body === "string" ? body : JSON.stringify(body),
  });
  return said(response);
}

export async function upload(
  url: string,
  userId: string,
  conversationId: string,
  bytes: Uint8Array<ArrayBuffer>,
  contentType = "application/octet-stream",
): Promise<Said> {
  const response = await fetch(`${url}/media?conversation=${encodeURIComponent(conversationId)}`, {
    method: "POST",
    headers: { Authorization: `Bearer ${await tokenFor(userId)}`, "Content-Type": contentType },
    body: bytes,
  });
  return said(response);
}

export async function download(
  url: string,
  userId: string,
  conversationId: string,
  mediaId: string,
  headers: Record<string, string> = {},
): Promise<Response> {
  return fetch(`${url}/media/${encodeURIComponent(conversationId)}/${mediaId}`, {
    headers: { Authorization: `Bearer ${await tokenFor(userId)}`, ...headers },
  });
}

/** A Subscribe stream of which nothing is read before `rest` is called. */
export interface UnreadStream {
  /** Reads to the end, and answers with the events. */
  rest(): Promise<Record<string, unknown>[]>;
  destroy(): void;
}

/** Resolves once the stream's first bytes have come. */
export async function subscribeUnread(url: string, userId: string): Promise<UnreadStream> {
  const call = request(`${url}/parley.v1.ChatService/Subscribe`, {
    method: "POST",
    agent: false,
    headers: {
      "Content-Type": "application/connect+json",
      Authorization: `Bearer ${await tokenFor(userId)}`,
    },
  });
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    call.once("response", resolve);
    call.once("error", reject);
    call.end(Buffer.from([0, 0, 0, 0, 2, ...Buffer.from("{}")]));
  });
  call.on("error", () => undefined);
  await new Promise((resolve) => response.once("readable", resolve));
  return {
    async rest() {
      const chunks: Buffer[] = [];
      for await (const chunk of response) if (Buffer.isBuffer(chunk)) chunks.push(chunk);
      return enveloped(Buffer.concat(chunks));
    },
    destroy: () => void call.destroy(),
  };
}

function enveloped(bytes: Buffer): Record<string, unknown>[] {
  const messages: Record<string, unknown>[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = bytes.readUInt32BE(at + 1);
    const text = bytes.toString("utf8", at + 5, at + 5 + length);
    messages.push(JSON.parse(text) as Record<string, unknown>);
    at += 5 + length;
  }
  return messages;
}
