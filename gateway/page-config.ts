/** The settings of the web page: where it is, how people sign in there, whom else it may call. */
import type { EnvReader } from "../mesh/env.ts";
import type { Clock } from "../mesh/clock.ts";
import { openPage } from "./page.ts";
import type { PageHandler } from "./page.ts";
import { developmentTokens, signInConfig } from "./sign-in.ts";
import type { SignIn } from "./sign-in.ts";

export interface PageConfig {
  /** "": there is none, or the one that whoever starts the process has. */
  readonly directory: string;
  readonly oidc: { readonly issuer: string; readonly clientId: string; readonly scope: string };
  /** Origins that the page may call besides its own. */
  readonly connect: readonly string[];
}

export function pageConfig(read: EnvReader): PageConfig {
  const directory = read.string(
    "PAGE",
    "",
    "the directory of the built web page, served at /; empty: the package's own where all runs in one process, else none",
  );
  const issuer = read.string(
    "OIDC_ISSUER",
    "",
    "people sign in to the web page at this OpenID provider; empty: with a token",
  );
  const clientId = read.string("OIDC_CLIENT_ID", "", "the web page's name at the OpenID provider");
  const scope = read.string(
    "OIDC_SCOPE",
    "openid",
    "what the web page asks of the OpenID provider",
  );
  const connect = read.list(
    "PAGE_CONNECT",
    [],
    "origins that the web page may call besides its own and the provider's: those of other regions, of tokens",
  );
  if (issuer !== "" && !isWebUrl(issuer))
    read.wrong(`PARLEY_OIDC_ISSUER must be an http or https address, not "${issuer}"`);
  if ((issuer === "") !== (clientId === ""))
    read.wrong("PARLEY_OIDC_ISSUER and PARLEY_OIDC_CLIENT_ID go together: set both or neither");
  for (const origin of connect)
    if (!URL.canParse(origin) || new URL(origin).origin !== origin)
      read.wrong(
        `PARLEY_PAGE_CONNECT takes origins such as https://eu.example.org, not "${origin}"`,
      );
  return { directory, oidc: { issuer, clientId, scope }, connect };
}

const isWebUrl = (url: string): boolean =>
  URL.canParse(url) && /^https?:$/.test(new URL(url).protocol);

/**
 * The page with all that it asks of its own server; undefined where there is none. `ownSecret`: what the process signs development tokens
 * with, "" where it must not.
 */
export async function createPage(
  { directory, oidc, connect }: PageConfig,
  ownSecret: string,
  clock: Clock,
): Promise<PageHandler | undefined> {
  if (directory === "") return undefined;
  const issuers = oidc.issuer === "" ? [] : [new URL(oidc.issuer).origin];
  // A gateway elsewhere is reached by WebSocket, too, which has a scheme of its own.
  const sockets = connect.map((origin) => origin.replace(/^http/, "ws"));
  const handlers = [
    await openPage(directory, [...issuers, ...connect, ...sockets]),
    signInConfig(signInOf(oidc, ownSecret)),
    ...(ownSecret === "" ? [] : [developmentTokens(ownSecret, clock)]),
  ];
  return (path, request, response) => handlers.some((handler) => handler(path, request, response));
}

function signInOf(oidc: PageConfig["oidc"], ownSecret: string): SignIn {
  if (oidc.issuer !== "") return { kind: "oidc", ...oidc };
  return { kind: ownSecret === "" ? "token" : "development" };
}
