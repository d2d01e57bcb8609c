/** The settings that say how tokens are checked. */
import { readFile } from "node:fs/promises";
import type { EnvReader } from "../mesh/env.ts";
import type { AuthConfig } from "./auth.ts";

/** One of them at most. */
export interface TokenConfig {
  readonly jwtSecret: string | undefined;
  readonly jwtPublicKeyFile: string | undefined;
  readonly jwksUrl: string | undefined;
}

/** `missing`: what is wrong where none is set; undefined: nothing is. */
export function tokenConfig(read: EnvReader, missing: string | undefined): TokenConfig {
  const jwtSecret = read.optional(
    "JWT_SECRET",
    "the secret that tokens are signed with (HS256), 32 bytes at least",
  );
  const jwtPublicKeyFile = read.optional(
    "JWT_PUBLIC_KEY_FILE",
    "a PEM file: the key that tokens are checked with",
  );
  const jwksUrl = read.optional(
    "JWKS_URL",
    "an address that answers with the keys that tokens are checked with",
  );
  const given = [jwtSecret, jwtPublicKeyFile, jwksUrl].filter((one) => one !== undefined).length;
  if (given > 1)
    read.wrong(
      "only one of PARLEY_JWT_SECRET, PARLEY_JWT_PUBLIC_KEY_FILE and PARLEY_JWKS_URL can be set",
    );
  if (jwtSecret !== undefined && Buffer.byteLength(jwtSecret) < 32)
    read.wrong("PARLEY_JWT_SECRET must have 32 bytes at least: make one by `openssl rand -hex 32`");
  if (jwksUrl !== undefined && !URL.canParse(jwksUrl))
    read.wrong(`PARLEY_JWKS_URL must be an address, not "${jwksUrl}"`);
  if (given === 0 && missing !== undefined)
    read.wrong(`${missing}: set PARLEY_JWT_SECRET, PARLEY_JWT_PUBLIC_KEY_FILE or PARLEY_JWKS_URL`);
  return { jwtSecret, jwtPublicKeyFile, jwksUrl };
}

/** What tokens are checked with, the key file read; undefined where nothing is set. */
export async function tokenKey(config: TokenConfig): Promise<AuthConfig | undefined> {
  const { jwtSecret, jwtPublicKeyFile, jwksUrl } = config;
  if (jwksUrl !== undefined) return { jwksUrl };
  if (jwtPublicKeyFile !== undefined)
    return { publicKeyPem: await readFile(jwtPublicKeyFile, "utf8") };
  return jwtSecret === undefined ? undefined : { secret: jwtSecret };
}
