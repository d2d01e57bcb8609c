/** Signing in at an OpenID provider: authorization code with PKCE. Loaded only where the server says so. */
import * as oauth from "oauth4webapi";
import type { Grant } from "./browser-sign-in.ts";

export interface OidcSettings {
  readonly kind: "oidc";
  readonly issuer: string;
  readonly clientId: string;
  readonly scope: string;
}

/** What the way back needs of the way there. */
interface Leaving {
  readonly verifier: string;
  readonly state: string;
}

const leavingKey = "parley.leaving";
/** A provider on this machine, for development, has no TLS. */
const loopback = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** Where the provider sends people back to: the page itself. */
const redirectUri = (): string => `${location.origin}${location.pathname}`;

/** Leaves the page for the provider's. */
export async function leave(settings: OidcSettings): Promise<void> {
  const { authorization_endpoint: endpoint } = await discover(settings);
  if (endpoint === undefined) throw new Error("the identity provider has no page to sign in at");
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();
  const leaving: Leaving = { verifier, state };
  sessionStorage.setItem(leavingKey, JSON.stringify(leaving));
  const url = new URL(endpoint);
  for (const [name, value] of Object.entries({
    client_id: settings.clientId,
    redirect_uri: redirectUri(),
    response_type: "code",
    scope: settings.scope,
    state,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
  }))
    url.searchParams.set(name, value);
  location.assign(url);
}

/** Back from the provider: the code in the address becomes a token, and is taken out of the address whatever comes of it. */
export async function comeBack(settings: OidcSettings): Promise<Grant> {
  const parameters = new URLSearchParams(location.search);
  history.replaceState(undefined, "", `${location.pathname}${location.hash}`);
  const text = sessionStorage.getItem(leavingKey);
  sessionStorage.removeItem(leavingKey);
  const leaving: unknown = text === null ? undefined : JSON.parse(text);
  if (!isLeaving(leaving)) throw new Error("sign in once more: this tab did not ask to");
  const server = await discover(settings);
  const client: oauth.Client = { client_id: settings.clientId };
  const checked = oauth.validateAuthResponse(server, client, parameters, leaving.state);
  const response = await oauth.authorizationCodeGrantRequest(
    server,
    client,
    oauth.None(),
    checked,
    redirectUri(),
    leaving.verifier,
    insecureWhere(settings),
  );
  return grantOf(await oauth.processAuthorizationCodeResponse(server, client, response));
}

export async function refresh(settings: OidcSettings, refreshToken: string): Promise<Grant> {
  const server = await discover(settings);
  const client: oauth.Client = { client_id: settings.clientId };
  const response = await oauth.refreshTokenGrantRequest(
    server,
    client,
    oauth.None(),
    refreshToken,
    insecureWhere(settings),
  );
  const next = grantOf(await oauth.processRefreshTokenResponse(server, client, response));
  return next.refreshToken === "" ? { ...next, refreshToken } : next;
}

async function discover(settings: OidcSettings): Promise<oauth.AuthorizationServer> {
  const issuer = new URL(settings.issuer);
  const response = await oauth.discoveryRequest(issuer, insecureWhere(settings));
  return oauth.processDiscoveryResponse(issuer, response);
}

/** Marked as deprecated so that nobody takes it for more than it is: for a provider on this machine. */
// oxlint-disable-next-line typescript/no-deprecated
function insecureWhere({ issuer }: OidcSettings): { [oauth.allowInsecureRequests]: boolean } {
  // oxlint-disable-next-line typescript/no-deprecated
  return { [oauth.allowInsecureRequests]: loopback.test(new URL(issuer).hostname) };
}

function grantOf(response: oauth.TokenEndpointResponse): Grant {
  const { access_token: token, expires_in: seconds, refresh_token: refreshToken = "" } = response;
  return {
    token,
    expiresMs: seconds === undefined ? 0 : Date.now() + seconds * 1_000,
    refreshToken,
  };
}

function isLeaving(kept: unknown): kept is Leaving {
  return typeof kept === "object" && kept !== null && "verifier" in kept && "state" in kept;
}
