/** Proves who a token is for, and makes tokens for development. It must not know what the token opens. */
import { createPublicKey, hash as digest } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { ConnectError } from "@connectrpc/connect";
import { SignJWT, createRemoteJWKSet, customFetch, errors, jwtVerify } from "jose";
import type { JWTPayload, JWTVerifyOptions } from "jose";
import { dateOf } from "../mesh/clock.ts";
import type { Clock } from "../mesh/clock.ts";
import { unauthenticated, unavailable } from "../mesh/errors.ts";
import { isUserId } from "../mesh/ids.ts";
import type { Authenticator, Identity } from "./ports.ts";

/** What tokens are checked with: exactly one of the three. */
export interface AuthConfig {
  /** For HS256; at least 32 bytes. */
  readonly secret?: Uint8Array | string;
  /** SPKI or a certificate, in PEM: RSA (RS256, PS256), P-256 (ES256) or Ed25519 (EdDSA). */
  readonly publicKeyPem?: string;
  readonly jwksUrl?: string;
  /** How long after a fetch of the JWKS an unknown key does not cause another one. */
  readonly jwksCooldownMs?: number;
}

const tokenBytesMax = 8_192;
const toleranceMs = 5_000;
/** A verified token is taken at its word for so long, so that a key that was withdrawn ends soon. */
const cachedMs = 60_000;
const cachedTokensMax = 10_000;
const secretBytesMin = 32;
/** The newest JWKS is wanted every so often; while its server does not answer, the last one serves on. */
const jwksRefreshMs = 600_000;
const jwksTimeoutMs = 5_000;
const jwksPauseMs = 1_000;

type Check = (token: string, options: JWTVerifyOptions) => Promise<JWTPayload>;

/** How tokens are checked, and the algorithms that fit the key: no other is ever tried. */
interface Key {
  readonly algorithms: string[];
  readonly check: Check;
}

function secretKey(secret: Uint8Array | string): Key {
  const bytes = typeof secret === "string" ? new TextEncoder().encode(secret) : secret;
  if (bytes.length < secretBytesMin)
    throw new Error(
      `the JWT secret has ${bytes.length} bytes; HS256 needs ${secretBytesMin} at least`,
    );
  return {
    algorithms: ["HS256"],
    check: async (token, options) => (await jwtVerify(token, bytes, options)).payload,
  };
}

function fittingAlgorithms(key: KeyObject): string[] {
  const { modulusLength = 0, namedCurve = "" } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case "rsa":
      if (modulusLength < 2_048)
        throw new Error(`the JWT public key has ${modulusLength} bits; RSA needs 2048 at least`);
      return ["RS256", "PS256"];
    case "ec":
      if (namedCurve !== "prime256v1")
        throw new Error(`the JWT public key is on the curve ${namedCurve}; only P-256 is taken`);
      return ["ES256"];
    case "ed25519":
      return ["EdDSA", "Ed25519"];
    default:
      throw new Error(
        `the JWT public key is of type ${key.asymmetricKeyType ?? "unknown"}; RSA, P-256 and Ed25519 are taken`,
      );
  }
}

function publicKey(pem: string): Key {
  if (pem.includes("PRIVATE KEY"))
    throw new Error("the JWT public key file holds a private key: give the public one only");
  let key: KeyObject;
  try {
    key = createPublicKey(pem);
  } catch (cause) {
    throw new Error("the JWT public key is no PEM public key or certificate", { cause });
  }
  return {
    algorithms: fittingAlgorithms(key),
    check: async (token, options) => (await jwtVerify(token, key, options)).payload,
  };
}

const keysMissing = (waitMs: number, cause?: unknown): ConnectError =>
  unavailable("the keys for checking tokens cannot be fetched now", waitMs, cause);

/** Keys from an address. What is known serves on while the address does not answer. */
function remoteKeys(address: string, cooldownMs: number, clock: Clock): Key {
  const url = new URL(address);
  if (url.protocol !== "https:" && url.protocol !== "http:")
    throw new Error(`the JWKS address ${address} is neither https nor http`);
  let pausedUntilMs = 0;
  let refreshAtMs = clock.monotonic() + jwksRefreshMs;
  const keys = createRemoteJWKSet(url, {
    timeoutDuration: jwksTimeoutMs,
    cooldownDuration: cooldownMs,
    cacheMaxAge: Infinity,
    [customFetch]: async (wanted, options) => {
      const waitMs = pausedUntilMs - clock.monotonic();
      if (waitMs > 0) throw keysMissing(waitMs);
      try {
        const response = await fetch(wanted, options);
        if (response.status === 200) return response;
        throw new Error(`the JWKS address answered ${response.status}`);
      } catch (cause) {
        pausedUntilMs = clock.monotonic() + jwksPauseMs;
        throw keysMissing(jwksPauseMs, cause);
      }
    },
  });

  function refresh(): void {
    if (keys.jwks() === undefined || clock.monotonic() < refreshAtMs) return;
    refreshAtMs = clock.monotonic() + jwksTimeoutMs;
    keys.reload().then(
      () => (refreshAtMs = clock.monotonic() + jwksRefreshMs),
      () => undefined,
    );
  }

  return {
    algorithms: ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"],
    async check(token, options) {
      refresh();
      try {
        return (await jwtVerify(token, keys, options)).payload;
      } catch (error) {
        throw isUnreadable(error) ? keysMissing(jwksPauseMs, error) : error;
      }
    },
  };
}

/** Whether what the address answered is no JWKS. */
function isUnreadable(error: unknown): boolean {
  if (error instanceof errors.JWKSTimeout || error instanceof errors.JWKSInvalid) return true;
  return error instanceof errors.JOSEError && error.code === errors.JOSEError.code;
}

/** What is wrong with the token, in words for whoever sent it. */
function explained(error: unknown, algorithms: string[]): ConnectError {
  if (error instanceof ConnectError) return error;
  if (error instanceof errors.JWTExpired) {
    const at = dateOf(Number(error.payload.exp) * 1_000);
    const when = Number.isNaN(at.getTime()) ? "" : ` at ${at.toISOString()}`;
    return unauthenticated(`the token expired${when}: get a new one`, error);
  }
  if (error instanceof errors.JWTClaimValidationFailed) {
    const early = error.claim === "nbf" && error.reason === "check_failed";
    const said = early ? "the token is not valid yet" : `the token's claim is wrong`;
    return unauthenticated(`${said} (${error.claim})`, error);
  }
  if (error instanceof errors.JOSEAlgNotAllowed)
    return unauthenticated(
      `the token's algorithm is not allowed here; allowed: ${algorithms.join(", ")}`,
      error,
    );
  if (error instanceof errors.JWSSignatureVerificationFailed)
    return unauthenticated("the token's signature is wrong", error);
  if (error instanceof errors.JWKSNoMatchingKey)
    return unauthenticated("the token is signed by a key that is not known here (kid)", error);
  if (error instanceof errors.JWKSMultipleMatchingKeys)
    return unauthenticated("the token must name the key that signed it (kid)", error);
  if (error instanceof errors.JOSENotSupported)
    return unauthenticated("the token uses something that is not supported (crit)", error);
  return unauthenticated("the token is malformed: a signed JWT is needed", error);
}

function identityOf({ sub, exp, region }: JWTPayload): Identity {
  if (sub === undefined) throw unauthenticated("the token names no user (sub)");
  if (typeof sub !== "string" || !isUserId(sub))
    throw unauthenticated(
      "the token's user id (sub) must be 1 to 128 characters of A-Z a-z 0-9 . _ @ -",
    );
  return {
    userId: sub,
    expiresMs: exp === undefined ? Infinity : exp * 1_000,
    // A claim of that name that means something else is none of ours.
    region: typeof region === "string" ? region : "",
  };
}

interface Verified {
  readonly identity: Identity;
  /** On the monotonic clock. */
  readonly untilMs: number;
}

/** Tokens that were verified lately, by their hash. */
class VerifiedTokens {
  readonly #known = new Map<string, Verified>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get(key: string): Identity | undefined {
    const found = this.#known.get(key);
    if (found === undefined) return undefined;
    const fresh = this.#clock.monotonic() < found.untilMs;
    if (fresh && this.#clock.now() < found.identity.expiresMs) return found.identity;
    this.#known.delete(key);
    return undefined;
  }

  add(key: string, identity: Identity): void {
    if (this.#known.size >= cachedTokensMax) {
      const [oldest] = this.#known.keys();
      if (oldest !== undefined) this.#known.delete(oldest);
    }
    this.#known.set(key, { identity, untilMs: this.#clock.monotonic() + cachedMs });
  }
}

function chosenKey(config: AuthConfig, clock: Clock): Key {
  const { secret, publicKeyPem, jwksUrl, jwksCooldownMs = 5_000 } = config;
  const given = [secret, publicKeyPem, jwksUrl].filter((one) => one !== undefined);
  if (given.length !== 1)
    throw new Error("give exactly one of: a JWT secret, a JWT public key, a JWKS address");
  if (secret !== undefined) return secretKey(secret);
  if (publicKeyPem !== undefined) return publicKey(publicKeyPem);
  return remoteKeys(jwksUrl ?? "", jwksCooldownMs, clock);
}

/**
 * Throws an Error where the configuration is wrong. Tokens without `exp` are taken; they are valid for as long as their key is.
 * `verify` throws UNAVAILABLE, not UNAUTHENTICATED, while the keys cannot be fetched: the token may be a good one.
 */
export function createAuthenticator(config: AuthConfig, clock: Clock): Promise<Authenticator> {
  return Promise.resolve().then(() => {
    const { algorithms, check } = chosenKey(config, clock);
    const verified = new VerifiedTokens(clock);
    return {
      async verify(token) {
        if (token === "")
          throw unauthenticated("a token is needed: a JWT whose sub is the user id");
        if (token.length > tokenBytesMax)
          throw unauthenticated(`the token is longer than ${tokenBytesMax} bytes`);
        const key = digest("sha256", token, "base64");
        const known = verified.get(key);
        if (known !== undefined) return known;
        try {
          const payload = await check(token, {
            algorithms,
            currentDate: dateOf(clock.now()),
            clockTolerance: toleranceMs / 1_000,
          });
          const identity = identityOf(payload);
          verified.add(key, identity);
          return identity;
        } catch (error) {
          throw explained(error, algorithms);
        }
      },
    };
  });
}

/** The token of an Authorization header. */
export function bearerToken(header: string | null | undefined): string {
  if (header === null || header === undefined || header === "")
    throw unauthenticated('a token is needed: send the header "Authorization: Bearer <JWT>"');
  const [, token] = /^Bearer +(\S+) *$/i.exec(header) ?? [];
  if (token === undefined)
    throw unauthenticated('the header Authorization must read "Bearer <JWT>"');
  return token;
}

/** A token for `parley token` and tests; a `ttlSeconds` of Infinity makes one without an end, a `region` of "" one for any. */
export async function signDevelopmentToken(
  secret: Uint8Array | string,
  userId: string,
  ttlSeconds: number,
  clock: Clock,
  region = "",
): Promise<string> {
  if (!isUserId(userId)) throw new Error("a user id is 1 to 128 characters of A-Z a-z 0-9 . _ @ -");
  const key = typeof secret === "string" ? new TextEncoder().encode(secret) : secret;
  const nowSeconds = Math.floor(clock.now() / 1_000);
  const token = new SignJWT(region === "" ? {} : { region })
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setSubject(userId)
    .setIssuedAt(nowSeconds);
  if (Number.isFinite(ttlSeconds)) token.setExpirationTime(nowSeconds + Math.floor(ttlSeconds));
  return await token.sign(key);
}
