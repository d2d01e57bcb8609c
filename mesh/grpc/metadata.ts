/** Headers and errors as gRPC writes them. Whatever gRPC cannot carry is left out: telling of an error must not fail. */
import { Metadata, status } from "@grpc/grpc-js";
import type { StatusObject } from "@grpc/grpc-js";
import { Code, ConnectError } from "@connectrpc/connect";

const keyPattern = /^[0-9a-z_.-]+$/;
const valuePattern = /^[ -~]*$/;
/** The connection's own, not the caller's. */
const notOurs = /^(grpc-|content-|(connection|host|te|user-agent|keep-alive|transfer-encoding)$)/;
const maxMessageLength = 4_096;

export function toMetadata(headers: Headers): Metadata {
  const metadata = new Metadata();
  headers.forEach((value, key) => {
    if (!keyPattern.test(key) || notOurs.test(key)) return;
    if (key.endsWith("-bin")) metadata.add(key, Buffer.from(value, "base64"));
    else if (valuePattern.test(value)) metadata.add(key, value);
  });
  return metadata;
}

export function toHeaders(metadata: Metadata, headers = new Headers()): Headers {
  for (const key of Object.keys(metadata.getMap())) {
    if (notOurs.test(key)) continue;
    for (const value of metadata.get(key)) {
      headers.append(key, typeof value === "string" ? value : value.toString("base64"));
    }
  }
  return headers;
}

/** The numbers of the two are the same. */
export function toStatus(error: ConnectError): {
  code: number;
  details: string;
  metadata: Metadata;
} {
  // By way of bytes, as half a character cannot be sent.
  const details = Buffer.from(error.rawMessage.slice(0, maxMessageLength)).toString();
  return { code: error.code, details, metadata: toMetadata(error.metadata) };
}

/** What a call ended with; undefined: well. */
export function fromStatus({ code, details, metadata }: StatusObject): ConnectError | undefined {
  if (code === status.OK) return undefined;
  return new ConnectError(details, toCode(code), toHeaders(metadata));
}

function toCode(number: number): Code {
  const known = Object.values(Code).includes(number);
  return known ? number : Code.Unknown;
}
