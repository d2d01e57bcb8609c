/** Signs the tokens of the benchmark's users (JWT, HS256). */
import { createHmac } from "node:crypto";

const base64url = (value: object): string =>
  Buffer.from(JSON.stringify(value)).toString("base64url");
const head = base64url({ alg: "HS256", typ: "JWT" });

export function signToken(secret: string, userId: string, nowMs: number): string {
  const iat = Math.floor(nowMs / 1000);
  const signed = `${head}.${base64url({ sub: userId, iat, exp: iat + 24 * 3600 })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}
