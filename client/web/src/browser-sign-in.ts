/** Who this tab is signed in as, by whichever way the server offers. The token is kept for this tab alone, until the tab is closed. */
import { deleteIndexedDbStore } from "../../indexeddb.ts";
import { cacheName, storeName } from "./channel.ts";
import { deleteEntryCache } from "./entry-cache.ts";
import type { OidcSettings } from "./oidc.ts";
import type { Account, SignIn, SignInOffer } from "./session.ts";
import { endSessions } from "./shared-session.ts";
import { decodeJwt } from "./token.ts";

/** What the server says at /config.json. */
type Way = { readonly kind: "development" } | { readonly kind: "token" } | OidcSettings;

/** What this tab keeps: a token, until when it is good, and what brings the next one. */
export interface Grant {
  readonly token: string;
  /** 0: nobody knows. */
  readonly expiresMs: number;
  /** The identity provider's; "": there is none. */
  readonly refreshToken: string;
}

const grantKey = "parley.grant";
const knownKey = "parley.known";
const knownMax = 10;
/** A token is renewed that long before its end. */
const earlyMs = 60_000;

export function browserSignIn(url: string): SignIn {
  let way: Promise<Way> | undefined;
  const wayOf = (): Promise<Way> => {
    way ??= readWay(url).catch((error: unknown) => {
      way = undefined;
      throw error;
    });
    return way;
  };

  /** One renewal at a time. */
  let renewing: Promise<Grant> | undefined;
  async function token(userId: string): Promise<string> {
    const grant = readGrant();
    if (grant === undefined) throw new Error("you are signed out");
    if (grant.expiresMs === 0 || Date.now() < grant.expiresMs - earlyMs) return grant.token;
    renewing ??= renew(grant, userId).finally(() => (renewing = undefined));
    return (await renewing).token;
  }

  async function renew(grant: Grant, userId: string): Promise<Grant> {
    const offered = await wayOf();
    let next: Grant | undefined;
    if (offered.kind === "development") next = await developmentGrant(url, userId);
    else if (offered.kind === "oidc" && grant.refreshToken !== "")
      next = await (await import("./oidc.ts")).refresh(offered, grant.refreshToken);
    // Nothing brings another one: the server says what it thinks of this one.
    if (next === undefined) return grant;
    return keepGrant(next);
  }

  const accountOf = (userId: string): Account => ({ userId, token: () => token(userId) });

  function begin(grant: Grant): Account {
    const userId = decodeJwt(grant.token).sub;
    keepGrant(grant);
    rememberName(userId);
    return accountOf(userId);
  }

  return {
    async offer(): Promise<SignInOffer> {
      const offered = await wayOf();
      const oidc = offered.kind === "oidc" ? new URL(offered.issuer).host : "";
      return { development: offered.kind === "development", oidc };
    },
    async current() {
      if (new URLSearchParams(location.search).has("state")) {
        const offered = await wayOf();
        const back = await import("./oidc.ts");
        if (offered.kind === "oidc") return begin(await back.comeBack(offered));
      }
      const grant = readGrant();
      return grant === undefined ? undefined : accountOf(decodeJwt(grant.token).sub);
    },
    known: () => Promise.resolve(knownNames()),
    byName: async (name) => begin(await developmentGrant(url, name)),
    byToken: async (given) => begin({ token: given.trim(), expiresMs: 0, refreshToken: "" }),
    async byProvider() {
      const offered = await wayOf();
      if (offered.kind !== "oidc") throw new Error("this server has no identity provider");
      await (await import("./oidc.ts")).leave(offered);
    },
    async signOut({ userId }) {
      sessionStorage.removeItem(grantKey);
      endSessions(userId);
      await Promise.all([
        deleteIndexedDbStore(storeName(userId)),
        deleteEntryCache(cacheName(userId)),
      ]);
    },
  };
}

async function readWay(url: string): Promise<Way> {
  const said: unknown = await (await fetch(`${url}/config.json`)).json();
  if (isWay(said)) return said.signIn;
  throw new Error("the server does not say how to sign in");
}

function isWay(said: unknown): said is { signIn: Way } {
  return typeof said === "object" && said !== null && "signIn" in said;
}

async function developmentGrant(url: string, user: string): Promise<Grant> {
  const response = await fetch(`${url}/development-token`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ user }),
  });
  const said: unknown = await response.json();
  if (response.ok && isIssued(said)) return { ...said, refreshToken: "" };
  throw new Error(messageOf(said) || `the server answered with ${response.status}`);
}

function isIssued(said: unknown): said is { token: string; expiresMs: number } {
  return typeof said === "object" && said !== null && "token" in said && "expiresMs" in said;
}

function messageOf(said: unknown): string {
  const told = typeof said === "object" && said !== null && "message" in said ? said.message : "";
  return typeof told === "string" ? told : "";
}

function readGrant(): Grant | undefined {
  const text = sessionStorage.getItem(grantKey);
  if (text === null) return undefined;
  const kept: unknown = JSON.parse(text);
  return isGrant(kept) ? kept : undefined;
}

function isGrant(kept: unknown): kept is Grant {
  return typeof kept === "object" && kept !== null && "token" in kept && "expiresMs" in kept;
}

function keepGrant(grant: Grant): Grant {
  sessionStorage.setItem(grantKey, JSON.stringify(grant));
  return grant;
}

/** Names alone are kept beyond the tab. */
function knownNames(): string[] {
  const text = localStorage.getItem(knownKey);
  return text === null ? [] : text.split("\n");
}

function rememberName(userId: string): void {
  const names = [userId, ...knownNames().filter((name) => name !== userId)];
  localStorage.setItem(knownKey, names.slice(0, knownMax).join("\n"));
}
