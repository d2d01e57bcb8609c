/** An OpenID provider of one user for tests: authorization code with PKCE, short tokens, refresh tokens; it holds the page to all of that. */
import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { SignJWT, exportJWK, generateKeyPair } from "jose";

export interface Provider {
  readonly issuer: string;
  readonly clientId: string;
  /** How often a refresh token brought another one. */
  readonly refreshed: () => number;
  close(): Promise<void>;
}

interface Code {
  readonly challenge: string;
  readonly redirectUri: string;
}

export async function openProvider(
  host: string,
  userId: string,
  ttlSeconds: number,
): Promise<Provider> {
  const clientId = "parley-web";
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  const codes = new Map<string, Code>();
  const refreshTokens = new Set<string>();
  let refreshed = 0;
  let issuer = "";
  const server = createServer((request, response) => {
    response.setHeader("access-control-allow-origin", "*");
    answer(request, response).catch(() => response.writeHead(400).end());
  });

  async function tokens(): Promise<object> {
    const jwt = new SignJWT().setProtectedHeader({ alg: "ES256", kid: "1" }).setSubject(userId);
    const now = Math.floor(Date.now() / 1_000);
    jwt.setIssuer(issuer).setAudience(clientId).setIssuedAt(now);
    const token = await jwt.setExpirationTime(now + ttlSeconds).sign(privateKey);
    const refresh = randomUUID();
    refreshTokens.add(refresh);
    const kind = { token_type: "bearer", expires_in: ttlSeconds };
    return { access_token: token, refresh_token: refresh, ...kind };
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", issuer);
    const say = (status: number, body: object): void => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(body));
    };
    switch (url.pathname) {
      case "/.well-known/openid-configuration":
        say(200, {
          issuer,
          authorization_endpoint: `${issuer}/authorize`,
          token_endpoint: `${issuer}/token`,
          jwks_uri: `${issuer}/keys`,
        });
        return;
      case "/keys":
        say(200, { keys: [{ ...(await exportJWK(publicKey)), kid: "1", alg: "ES256" }] });
        return;
      case "/authorize": {
        const asked = url.searchParams;
        const right =
          asked.get("response_type") === "code" &&
          asked.get("client_id") === clientId &&
          asked.get("code_challenge_method") === "S256";
        if (!right) throw new Error("not what was agreed");
        const code = randomUUID();
        const redirectUri = asked.get("redirect_uri") ?? "";
        codes.set(code, { challenge: asked.get("code_challenge") ?? "", redirectUri });
        const back = new URL(redirectUri);
        back.searchParams.set("code", code);
        back.searchParams.set("state", asked.get("state") ?? "");
        response.writeHead(302, { location: String(back) }).end();
        return;
      }
      case "/token": {
        const form = new URLSearchParams(await textOf(request));
        if (form.get("grant_type") === "refresh_token") {
          if (!refreshTokens.delete(form.get("refresh_token") ?? "")) throw new Error("unknown");
          refreshed += 1;
        } else {
          const code = codes.get(form.get("code") ?? "");
          codes.delete(form.get("code") ?? "");
          const verifier = form.get("code_verifier") ?? "";
          const challenge = createHash("sha256").update(verifier).digest("base64url");
          if (code?.challenge !== challenge || code.redirectUri !== form.get("redirect_uri"))
            throw new Error("the code is not this page's");
        }
        say(200, await tokens());
        return;
      }
      default:
        response.writeHead(404).end();
    }
  }

  server.listen(0, host);
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no address");
  issuer = `http://${host}:${address.port}`;
  return {
    issuer,
    clientId,
    refreshed: () => refreshed,
    async close() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request) text += String(chunk);
  return text;
}
