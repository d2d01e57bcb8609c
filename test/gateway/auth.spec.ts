/** Which tokens are taken, and what is said of the others. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { Code } from "@connectrpc/connect";
import { SignJWT, UnsecuredJWT, exportJWK } from "jose";
import { bearerToken, createAuthenticator, signDevelopmentToken } from "../../gateway/auth.ts";
import { ManualClock } from "../../mesh/clock.ts";
import { secret } from "./edge.ts";

const clock = new ManualClock();
const nowSeconds = clock.now() / 1_000;
const refused = (message: RegExp): object => ({ code: Code.Unauthenticated, message });

const signed = (
  alg: string,
  key: KeyObject | Uint8Array,
  claims: Record<string, unknown> = {},
  header: Record<string, string> = {},
): Promise<string> =>
  new SignJWT({ sub: "alice", exp: nowSeconds + 60, ...claims })
    .setProtectedHeader({ alg, ...header })
    .sign(key);

const bytes = new TextEncoder().encode(secret);
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const otherRsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const ec = generateKeyPairSync("ec", { namedCurve: "P-256" });
const ed = generateKeyPairSync("ed25519");
const pemOf = (key: KeyObject): string => key.export({ type: "spki", format: "pem" }).toString();

describe("tokens of a shared secret", () => {
  const open = (): ReturnType<typeof createAuthenticator> => createAuthenticator({ secret }, clock);

  it("are taken, with the user and the end that they name", async () => {
    const { verify } = await open();
    const token = await signDevelopmentToken(secret, "alice", 60, clock);
    const expiresMs = clock.now() + 60_000;
    assert.deepEqual(await verify(token), { userId: "alice", expiresMs, region: "" });
  });

  it("may have no end", async () => {
    const { verify } = await open();
    const token = await signDevelopmentToken(secret, "alice", Infinity, clock);
    assert.deepEqual(await verify(token), { userId: "alice", expiresMs: Infinity, region: "" });
  });

  it("are refused when missing, malformed or too long", async () => {
    const { verify } = await open();
    await assert.rejects(verify(""), refused(/a token is needed/));
    for (const wrong of ["x", "a.b.c", "a.b", "🙂.🙂.🙂", "..", "e30.e30.e30"])
      await assert.rejects(verify(wrong), refused(/malformed|algorithm/), wrong);
    await assert.rejects(verify("a".repeat(8_193)), refused(/longer than 8192/));
  });

  it("are refused once expired, also when they were good before", async () => {
    const later = new ManualClock();
    const { verify } = await createAuthenticator({ secret }, later);
    const token = await signDevelopmentToken(secret, "alice", 30, later);
    await verify(token);
    later.advance(29_000);
    await verify(token);
    later.advance(6_001);
    await assert.rejects(verify(token), refused(/expired at 2023-.*get a new one/));
  });

  it("are taken for 5 seconds more, since clocks differ", async () => {
    const { verify } = await open();
    const justOver = await signed("HS256", bytes, { exp: nowSeconds - 4 });
    assert.equal((await verify(justOver)).userId, "alice");
    await assert.rejects(verify(await signed("HS256", bytes, { exp: nowSeconds - 6 })), /expired/);
    await assert.rejects(
      verify(await signed("HS256", bytes, { nbf: nowSeconds + 6 })),
      refused(/not valid yet/),
    );
  });

  it("are refused with a wrong signature, wholly or in one bit", async () => {
    const { verify } = await open();
    const token = await signed("HS256", bytes);
    const other = await signed("HS256", new TextEncoder().encode(secret + "!"));
    await assert.rejects(verify(other), refused(/signature is wrong/));
    const [head, , signature] = token.split(".");
    const [, body] = (await signed("HS256", bytes, { sub: "mallory" })).split(".");
    await assert.rejects(verify([head, body, signature].join(".")), refused(/signature is wrong/));
  });

  it("are refused with no algorithm, or one that does not fit the key", async () => {
    const { verify } = await open();
    const none = new UnsecuredJWT({ sub: "alice" }).encode();
    await assert.rejects(verify(none), refused(/algorithm is not allowed.*HS256/));
    await assert.rejects(verify(await signed("HS512", bytes)), refused(/algorithm/));
    await assert.rejects(verify(await signed("RS256", rsa.privateKey)), refused(/algorithm/));
  });

  it("are refused without a user id, or with a bad one", async () => {
    const { verify } = await open();
    await assert.rejects(
      verify(await signed("HS256", bytes, { sub: undefined })),
      refused(/names no user/),
    );
    for (const sub of ["", "a b", "alice:bob", "é", "a".repeat(129), "../x", 7, null])
      await assert.rejects(verify(await signed("HS256", bytes, { sub })), refused(/\(sub\)/));
    const longest = "a".repeat(128);
    assert.equal((await verify(await signed("HS256", bytes, { sub: longest }))).userId, longest);
  });

  it("are refused with an end that is no number", async () => {
    const { verify } = await open();
    await assert.rejects(
      verify(await signed("HS256", bytes, { exp: "tomorrow" })),
      refused(/claim is wrong \(exp\)/),
    );
  });
});

describe("tokens of a public key", () => {
  const good = [
    ["RS256", rsa],
    ["PS256", rsa],
    ["ES256", ec],
    ["EdDSA", ed],
  ] as const;
  for (const [alg, pair] of good)
    it(`are taken when signed by ${alg}`, async () => {
      const { verify } = await createAuthenticator({ publicKeyPem: pemOf(pair.publicKey) }, clock);
      assert.equal((await verify(await signed(alg, pair.privateKey))).userId, "alice");
    });

  it("are refused when HMAC was keyed with the public key", async () => {
    const publicKeyPem = pemOf(rsa.publicKey);
    const { verify } = await createAuthenticator({ publicKeyPem }, clock);
    const confused = await signed("HS256", new TextEncoder().encode(publicKeyPem));
    await assert.rejects(verify(confused), refused(/algorithm is not allowed.*RS256, PS256/));
  });

  it("are refused when another key signed", async () => {
    const { verify } = await createAuthenticator({ publicKeyPem: pemOf(rsa.publicKey) }, clock);
    const other = await signed("RS256", otherRsa.privateKey);
    await assert.rejects(verify(other), refused(/signature is wrong/));
  });

  it("need a key that fits", async () => {
    const small = generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey;
    const curve = generateKeyPairSync("ec", { namedCurve: "P-384" }).publicKey;
    const privatePem = rsa.privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    const wrong: [Parameters<typeof createAuthenticator>[0], RegExp][] = [
      [{ publicKeyPem: "no key" }, /no PEM public key/],
      [{ publicKeyPem: privatePem }, /private key/],
      [{ publicKeyPem: pemOf(small) }, /1024 bits/],
      [{ publicKeyPem: pemOf(curve) }, /curve secp384r1/],
      [{ secret: "short" }, /5 bytes; HS256 needs 32/],
      [{ jwksUrl: "ftp://keys.example" }, /neither https nor http/],
      [{}, /exactly one/],
      [{ secret, jwksUrl: "https://keys.example" }, /exactly one/],
    ];
    for (const [config, message] of wrong)
      await assert.rejects(createAuthenticator(config, clock), { message });
  });
});

describe("tokens of a JWKS", () => {
  let server: Server;
  let keys: object[] = [];
  let fetches = 0;
  let down = false;
  let jwksUrl = "";
  const jwkOf = async (key: KeyObject, kid: string): Promise<object> => ({
    ...(await exportJWK(key)),
    kid,
  });

  beforeEach(async () => {
    fetches = 0;
    down = false;
    keys = [await jwkOf(rsa.publicKey, "one")];
    server = createServer((_, response) => {
      fetches += 1;
      response.statusCode = down ? 500 : 200;
      response.end(JSON.stringify({ keys }));
    });
    await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
    jwksUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`;
  });
  afterEach(() => server.close().closeAllConnections());

  it("are taken, by one fetch for many", async () => {
    const { verify } = await createAuthenticator({ jwksUrl }, clock);
    const tokens = await Promise.all(
      ["alice", "bob", "carol"].map((sub) =>
        signed("RS256", rsa.privateKey, { sub }, { kid: "one" }),
      ),
    );
    const users = await Promise.all(tokens.map(verify));
    assert.deepEqual(
      users.map(({ userId }) => userId),
      ["alice", "bob", "carol"],
    );
    assert.equal(fetches, 1);
  });

  it("are taken after the keys were changed, and the old key's no longer", async () => {
    const later = new ManualClock();
    const { verify } = await createAuthenticator({ jwksUrl, jwksCooldownMs: 0 }, later);
    const old = await signed("RS256", rsa.privateKey, {}, { kid: "one" });
    await verify(old);
    keys = [await jwkOf(ec.publicKey, "two")];
    assert.equal(
      (await verify(await signed("ES256", ec.privateKey, {}, { kid: "two" }))).userId,
      "alice",
    );
    later.advance(60_001);
    const stillValid = await signed(
      "RS256",
      rsa.privateKey,
      { exp: nowSeconds + 600 },
      { kid: "one" },
    );
    await assert.rejects(verify(stillValid), refused(/not known here \(kid\)/));
    await assert.rejects(verify(old), { code: Code.Unauthenticated });
  });

  it("cause no fetch for each key that nobody knows", async () => {
    const { verify } = await createAuthenticator({ jwksUrl }, clock);
    await verify(await signed("RS256", rsa.privateKey, {}, { kid: "one" }));
    for (const kid of ["x", "y", "z"]) {
      const token = await signed("RS256", otherRsa.privateKey, {}, { kid });
      await assert.rejects(verify(token), refused(/not known here \(kid\)/));
    }
    assert.equal(fetches, 1);
  });

  it("are refused with HMAC, be it keyed with what is in the JWKS", async () => {
    keys = [{ kty: "oct", kid: "one", alg: "HS256", k: Buffer.from(bytes).toString("base64url") }];
    const { verify } = await createAuthenticator({ jwksUrl }, clock);
    await assert.rejects(
      verify(await signed("HS256", bytes, {}, { kid: "one" })),
      refused(/algorithm is not allowed/),
    );
  });

  it("are not called wrong while the keys cannot be fetched; then it is tried again", async () => {
    down = true;
    const later = new ManualClock();
    const { verify } = await createAuthenticator({ jwksUrl }, later);
    const token = await signed("RS256", rsa.privateKey, {}, { kid: "one" });
    const away = { code: Code.Unavailable, message: /cannot be fetched now/ };
    await assert.rejects(verify(token), away);
    await assert.rejects(verify(token), away);
    assert.equal(fetches, 1, "a moment's pause between tries");
    down = false;
    later.advance(1_000);
    assert.equal((await verify(token)).userId, "alice");
  });

  it("are taken by the known keys while newer ones cannot be fetched", async () => {
    const later = new ManualClock();
    const { verify } = await createAuthenticator({ jwksUrl }, later);
    const make = (exp: number): Promise<string> =>
      signed("RS256", rsa.privateKey, { exp }, { kid: "one" });
    await verify(await make(nowSeconds + 60));
    down = true;
    later.advance(3_600_000);
    assert.equal((await verify(await make(nowSeconds + 7_200))).userId, "alice");
  });

  it("are not called wrong where what is fetched is no JWKS", async () => {
    server.removeAllListeners("request");
    server.on("request", (_, response) => void response.end("<html>"));
    const { verify } = await createAuthenticator({ jwksUrl }, clock);
    await assert.rejects(verify(await signed("RS256", rsa.privateKey)), { code: Code.Unavailable });
  });
});

describe("the header Authorization", () => {
  it("gives its token", () => {
    assert.equal(bearerToken("Bearer a.b.c"), "a.b.c");
    assert.equal(bearerToken("bearer  a.b.c"), "a.b.c");
  });

  it("is needed, and must be of the kind Bearer", () => {
    assert.throws(() => bearerToken(undefined), refused(/Authorization: Bearer/));
    for (const wrong of ["Basic YTpi", "Bearer", "Bearer a b", "a.b.c"])
      assert.throws(() => bearerToken(wrong), refused(/must read "Bearer <JWT>"/));
  });
});
