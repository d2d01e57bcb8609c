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

export class BrowserSignIn implements SignIn {
  readonly #url: string;
  #way: Promise<Way> | undefined;
  /** One renewal at a time. */
  #renewing: Promise<Grant> | undefined;

  constructor(url: string) {
    this.#url = url;
  }

  async offer(): Promise<SignInOffer> {
    const way = await this.#wayOf();
    const oidc = way.kind === "oidc" ? new URL(way.issuer).host : "";
    return { development: way.kind === "development", oidc };
  }

  async current(): Promise<Account | undefined> {
    if (new URLSearchParams(location.search).has("state")) {
      const way = await this.#wayOf();
      const { comeBack } = await import("./oidc.ts");
      if (way.kind === "oidc") return this.#begin(await comeBack(way));
    }
    const grant = readGrant();
    return grant === undefined ? undefined : this.#account(decodeJwt(grant.token).sub);
  }

  known(): Promise<readonly string[]> {
    return Promise.resolve(knownNames());
  }

  async byName(name: string): Promise<Account> {
    return this.#begin(await developmentGrant(this.#url, name));
  }

  async byToken(token: string): Promise<Account> {
    return this.#begin({ token: token.trim(), expiresMs: 0, refreshToken: "" });
  }

  async byProvider(): Promise<void> {
    const way = await this.#wayOf();
    if (way.kind !== "oidc") throw new Error("this server has no identity provider");
    const { leave } = await import("./oidc.ts");
    await leave(way);
  }

  async signOut({ userId }: Account): Promise<void> {
    sessionStorage.removeItem(grantKey);
    endSessions(userId);
    await Promise.all([
      deleteIndexedDbStore(storeName(userId)),
      deleteEntryCache(cacheName(userId)),
    ]);
  }

  #wayOf(): Promise<Way> {
    this.#way ??= readWay(this.#url).catch((error: unknown) => {
      this.#way = undefined;
      throw error;
    });
    return this.#way;
  }

  #account(userId: string): Account {
    return { userId, token: () => this.#token(userId) };
  }

  #begin(grant: Grant): Account {
    const userId = decodeJwt(grant.token).sub;
    keepGrant(grant);
    rememberName(userId);
    return this.#account(userId);
  }

  async #token(userId: string): Promise<string> {
    const grant = readGrant();
    if (grant === undefined) throw new Error("you are signed out");
    if (grant.expiresMs === 0 || Date.now() < grant.expiresMs - earlyMs) return grant.token;
    this.#renewing ??= this.#renew(grant, userId).finally(() => (this.#renewing = undefined));
    return (await this.#renewing).token;
  }

  /** Where nothing brings another token, the server says what it thinks of this one. */
  async #renew(grant: Grant, userId: string): Promise<Grant> {
    const way = await this.#wayOf();
    if (way.kind === "development") return keepGrant(await developmentGrant(this.#url, userId));
    if (way.kind === "token" || grant.refreshToken === "") return grant;
    const { refresh } = await import("./oidc.ts");
    return keepGrant(await refresh(way, grant.refreshToken));
  }
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
