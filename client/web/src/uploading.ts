/** Uploads a file with its progress, which fetch does not tell in browsers. */
import { fromJson } from "@bufbuild/protobuf";
import { AttachmentSchema } from "../../../proto/gen/parley/v1/record_pb.ts";
import type { Attachment, UploadWatch } from "./session.ts";

export async function uploadFile(
  baseUrl: string,
  token: string,
  conversationId: string,
  file: Blob,
  fileName: string,
  watch: UploadWatch,
): Promise<Attachment> {
  const url = `${baseUrl}/media?conversation=${encodeURIComponent(conversationId)}`;
  const text = await post(url, token, file, watch);
  const attachment = fromJson(AttachmentSchema, JSON.parse(text), { ignoreUnknownFields: true });
  attachment.fileName = fileName;
  return attachment;
}

function post(url: string, token: string, file: Blob, watch: UploadWatch): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.setRequestHeader("authorization", `Bearer ${token}`);
    request.setRequestHeader("content-type", "application/octet-stream");
    request.upload.addEventListener("progress", ({ loaded, total }) =>
      watch.progress(total > 0 ? loaded / total : 0),
    );
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300) resolve(request.responseText);
      else reject(new Error(reasonOf(request.responseText, request.status)));
    });
    request.addEventListener("error", () => reject(new Error("the server cannot be reached")));
    request.addEventListener("abort", () => reject(new Error("cancelled")));
    watch.signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

function reasonOf(text: string, status: number): string {
  try {
    const said: unknown = JSON.parse(text);
    if (typeof said === "object" && said !== null && "message" in said) return String(said.message);
  } catch {
    // Whatever stands between answered.
  }
  return `the server answered with ${status}`;
}
