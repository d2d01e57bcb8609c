/** Tells the page how people sign in, and, for development on one machine, signs tokens for whatever name is picked. */
import type { IncomingMessage } from "node:http";
import { ConnectError } from "@connectrpc/connect";
import type { Clock } from "../mesh/clock.ts";
import { notAllowed } from "../mesh/errors.ts";
import { isUserId } from "../mesh/ids.ts";
import { refusal, sendError, sendJson } from "./answer.ts";
import { signDevelopmentToken } from "./auth.ts";
import { readBody } from "./body.ts";
import type { PageHandler } from "./page.ts";

/** How people get their token: they pick a name, paste a token, or sign in at an OpenID provider. */
export type SignIn =
  | { readonly kind: "development" }
  | { readonly kind: "token" }
  | {
      readonly kind: "oidc";
      readonly issuer: string;
      readonly clientId: string;
      readonly scope: string;
    };

const configPath = "/config.json";
const tokenPath = "/development-token";
const tokenSeconds = 3_600;
const bodyBounds = { maxBytes: 1_024, silentMs: 5_000, uploadMs: 5_000 };

/** Answers how to sign in. */
export function signInConfig(signIn: SignIn): PageHandler {
  return (path, { method }, response) => {
    if (path !== configPath || (method !== "GET" && method !== "HEAD")) return false;
    sendJson(response, 200, { signIn });
    return true;
  };
}

/**
 * Signs tokens for the page that is open on this machine. Only for a server that listens on loopback alone: any page of another origin, and
 * any name that was made to point here (DNS rebinding), is refused.
 */
export function developmentTokens(secret: string, clock: Clock): PageHandler {
  return (path, request, response) => {
    if (path !== tokenPath) return false;
    issue(secret, clock, request).then(
      (issued) => sendJson(response, 200, issued),
      (error: unknown) => sendError(response, ConnectError.from(error)),
    );
    return true;
  };
}

async function issue(
  secret: string,
  clock: Clock,
  request: IncomingMessage,
): Promise<{ token: string; expiresMs: number }> {
  if (request.method !== "POST") throw refusal(405, 'ask with POST and {"user": "alice"}');
  const { host = "", origin } = request.headers;
  if (!isLoopback(host)) throw notAllowed(`${host} does not name this machine itself`);
  if (origin !== `http://${host}`) throw notAllowed("only the page of this server may ask");
  if (!/^application\/json\s*(;|$)/i.test(request.headers["content-type"] ?? ""))
    throw refusal(415, "send application/json");
  const user = userOf((await readBody(request, clock, bodyBounds)).toString("utf8"));
  const token = await signDevelopmentToken(secret, user, tokenSeconds, clock);
  return { token, expiresMs: clock.now() + tokenSeconds * 1_000 };
}

/** Whether a Host header names this machine by an address or name that no DNS server decides. */
function isLoopback(host: string): boolean {
  if (!URL.canParse(`http://${host}`)) return false;
  const { hostname } = new URL(`http://${host}`);
  return hostname === "localhost" || hostname === "[::1]" || /^127(\.\d{1,3}){3}$/.test(hostname);
}

function userOf(body: string): string {
  let asked: unknown;
  try {
    asked = JSON.parse(body);
  } catch {
    throw refusal(400, 'send {"user": "alice"}');
  }
  const user = typeof asked === "object" && asked !== null && "user" in asked ? asked.user : "";
  if (typeof user !== "string" || !isUserId(user))
    throw refusal(400, "a user id is 1 to 128 characters of A-Z a-z 0-9 . _ @ -");
  return user;
}
