/** The web page at the edge: its files and their headers, how people sign in, and to whom development tokens are not given. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import type { IncomingMessage } from "node:http";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createAuthenticator } from "../../gateway/auth.ts";
import { createPage, pageConfig } from "../../gateway/page-config.ts";
import type { PageConfig } from "../../gateway/page-config.ts";
import { systemClock } from "../../mesh/clock.ts";
import { EnvReader } from "../../mesh/env.ts";
import { newFolder } from "../support/parley.ts";
import { closeEdges, openEdge, secret } from "./edge.ts";
import type { TestEdge } from "./edge.ts";

type Headers = Record<string, string>;

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
}

/** Unlike fetch, this sends any path and any header. */
async function ask(
  { port }: TestEdge,
  path: string,
  headers: Headers = {},
  { method = "GET", body = "" } = {},
): Promise<Answer> {
  const request = httpRequest({ host: "127.0.0.1", port, path, method, headers, agent: false });
  request.end(body);
  const [response] = (await once(request, "response")) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    body: Buffer.concat(chunks),
  };
}

const script = "console.log('a script that is long enough to be worth packing');\n".repeat(20);

describe("the web page at the edge", () => {
  let folder: Awaited<ReturnType<typeof newFolder>>;
  before(async () => {
    folder = await newFolder();
    await mkdir(join(folder.path, "built", "assets"), { recursive: true });
    await writeFile(join(folder.path, "built", "index.html"), "<!doctype html><title>P</title>");
    await writeFile(join(folder.path, "built", "assets", "main-ab12cd34.js"), script);
    await writeFile(join(folder.path, "secret.txt"), "not for the web");
  });
  after(() => folder.remove());
  afterEach(closeEdges);

  async function edge(given: Partial<PageConfig> = {}, ownSecret = ""): Promise<TestEdge> {
    const oidc = { issuer: "", clientId: "", scope: "openid" };
    const config = { directory: join(folder.path, "built"), oidc, connect: [], ...given };
    return openEdge({ page: await createPage(config, ownSecret, systemClock) });
  }

  it("is served under a policy that runs nothing inline and asks only here", async () => {
    const { status, headers, body } = await ask(await edge(), "/");
    assert.equal(status, 200);
    assert.equal(body.toString(), "<!doctype html><title>P</title>");
    assert.equal(headers["content-type"], "text/html; charset=utf-8");
    assert.equal(headers["cache-control"], "no-cache");
    assert.equal(headers["x-content-type-options"], "nosniff");
    assert.equal(headers["referrer-policy"], "no-referrer");
    const policy = String(headers["content-security-policy"]).split("; ");
    for (const directive of [
      "default-src 'none'",
      "script-src 'self'",
      "img-src 'self' blob:",
      "connect-src 'self'",
      "frame-ancestors 'none'",
      "base-uri 'none'",
    ])
      assert.ok(policy.includes(directive), directive);
    assert.doesNotMatch(policy.join(), /unsafe|\*|data:/);
  });

  it("names in the policy whom it was told that the page may call", async () => {
    const oidc = { issuer: "https://id.example/realm", clientId: "web", scope: "openid" };
    const answer = await ask(await edge({ oidc, connect: ["https://eu.example"] }), "/");
    assert.match(
      String(answer.headers["content-security-policy"]),
      /connect-src 'self' https:\/\/id\.example https:\/\/eu\.example wss:\/\/eu\.example;/,
    );
  });

  it("lets browsers keep for good what has a hash in its name, and asks them to look for the rest", async () => {
    const at = await edge();
    const path = "/assets/main-ab12cd34.js";
    const plain = await ask(at, path);
    assert.equal(plain.body.toString(), script);
    assert.equal(plain.headers["cache-control"], "public, max-age=31536000, immutable");
    const packed = await ask(at, path, { "accept-encoding": "br, gzip" });
    assert.equal(packed.headers["content-encoding"], "gzip");
    assert.ok(packed.body.length < plain.body.length / 2);
    const refused = await ask(at, path, { "accept-encoding": "gzip;q=0" });
    assert.equal(refused.headers["content-encoding"], undefined);
    const etag = String((await ask(at, "/")).headers.etag);
    const again = await ask(at, "/", { "if-none-match": etag });
    assert.deepEqual([again.status, again.body.length], [304, 0]);
    const head = await ask(at, path, {}, { method: "HEAD" });
    assert.deepEqual([head.status, head.body.length], [200, 0]);
  });

  it("gives nothing but its own files, whatever the path", async () => {
    const at = await edge();
    for (const path of [
      "/../secret.txt",
      "/assets/../../secret.txt",
      "/..%2fsecret.txt",
      "/%2e%2e/secret.txt",
      "/assets\\..\\..\\secret.txt",
      "//etc/passwd",
      "/assets",
      "/assets/",
      "/index.html%00.js",
    ])
      assert.equal((await ask(at, path)).status, 404, path);
    assert.equal((await ask(at, "/", {}, { method: "POST" })).status, 404);
  });

  it("says what to do where there is none", async () => {
    const answer = await ask(await openEdge(), "/");
    assert.equal(answer.status, 404);
    assert.match(answer.body.toString(), /npm run build/);
    await assert.rejects(edge({ directory: folder.path }), /no built page.*npm run build/);
  });
});

describe("how people sign in to the web page", () => {
  let folder: Awaited<ReturnType<typeof newFolder>>;
  before(async () => {
    folder = await newFolder();
    await writeFile(join(folder.path, "index.html"), "<!doctype html>");
  });
  after(() => folder.remove());
  afterEach(closeEdges);

  const none = { issuer: "", clientId: "", scope: "openid" };
  async function edge(ownSecret: string, oidc = none): Promise<TestEdge> {
    const config = { directory: folder.path, oidc, connect: [] };
    return openEdge({ page: await createPage(config, ownSecret, systemClock) });
  }
  const wayOf = async (at: TestEdge): Promise<unknown> =>
    JSON.parse((await ask(at, "/config.json")).body.toString());

  it("is by a name where the server made its secret itself, else by token or provider", async () => {
    assert.deepEqual(await wayOf(await edge(secret)), { signIn: { kind: "development" } });
    assert.deepEqual(await wayOf(await edge("")), { signIn: { kind: "token" } });
    const oidc = { issuer: "https://id.example", clientId: "web", scope: "openid" };
    assert.deepEqual(await wayOf(await edge("", oidc)), { signIn: { kind: "oidc", ...oidc } });
  });

  const post = { method: "POST", body: '{"user": "alice"}' };
  const path = "/development-token";
  const from = (host: string): Headers => ({
    host,
    origin: `http://${host}`,
    "content-type": "application/json",
  });

  it("signs development tokens for the page on this machine", async () => {
    const at = await edge(secret);
    for (const host of [`127.0.0.1:${at.port}`, `localhost:${at.port}`, `[::1]:${at.port}`]) {
      const { status, headers, body } = await ask(at, path, from(host), post);
      assert.equal(status, 200, host);
      assert.equal(headers["cache-control"], "no-store");
      const { token, expiresMs } = JSON.parse(body.toString()) as Record<string, unknown>;
      const auth = await createAuthenticator({ secret }, systemClock);
      const identity = await auth.verify(String(token));
      assert.equal(identity.userId, "alice");
      assert.ok(Math.abs(identity.expiresMs - Number(expiresMs)) < 2_000);
    }
  });

  it("signs none for other pages, other names of this machine, or forms", async () => {
    const at = await edge(secret);
    const own = `127.0.0.1:${at.port}`;
    const refused: [Headers, number][] = [
      // A name that was made to point here, and its page.
      [from(`rebound.example:${at.port}`), 403],
      [from(`127.0.0.1.rebound.example:${at.port}`), 403],
      [{ ...from(own), origin: "https://evil.example" }, 403],
      [{ ...from(own), origin: `http://localhost:${at.port}` }, 403],
      [{ ...from(own), origin: "null" }, 403],
      [{ host: own, "content-type": "application/json" }, 403],
      [{ ...from(own), "content-type": "text/plain" }, 415],
    ];
    for (const [headers, status] of refused)
      assert.equal((await ask(at, path, headers, post)).status, status, JSON.stringify(headers));
    for (const body of ["", "[]", '{"user": "a b"}', `{"user": "${"a".repeat(2_000)}"}`]) {
      const { status } = await ask(at, path, from(own), { method: "POST", body });
      assert.ok(status === 400 || status === 413, body);
    }
    assert.equal((await ask(at, path, from(own))).status, 405);
  });

  it("has no such thing where the secret is not the server's own", async () => {
    const at = await edge("");
    assert.equal((await ask(at, path, from(`127.0.0.1:${at.port}`), post)).status, 404);
  });

  it("names wrong settings", () => {
    const wrong = (values: Record<string, string>): (() => void) => {
      const read = new EnvReader(values, "PARLEY_");
      return () => void read.done(pageConfig(read));
    };
    assert.throws(wrong({ PARLEY_OIDC_ISSUER: "https://id.example" }), /go together/);
    assert.throws(
      wrong({ PARLEY_OIDC_ISSUER: "id.example", PARLEY_OIDC_CLIENT_ID: "web" }),
      /must be an http or https address/,
    );
    assert.throws(wrong({ PARLEY_PAGE_CONNECT: "https://eu.example/x" }), /takes origins/);
  });
});
