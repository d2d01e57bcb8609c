/** Who the command speaks as: a given token, or one that is signed with the secret of a server on this machine. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Command, Option } from "commander";
import { systemClock } from "../mesh/clock.ts";
import { serverUrl } from "./arguments.ts";

/** Options of every command that talks to a server. */
export interface IdentityOptions {
  readonly url: string;
  readonly as?: string;
  readonly token?: string;
  readonly data: string;
  readonly device?: string;
}

export const dataOption = (what: string): Option =>
  new Option("--data <directory>", what).env("PARLEY_DATA").default("./data");

export function withIdentity(command: Command): Command {
  return command
    .option(
      "--as <user>",
      "speak as this user, with a token signed by the secret of the server on this machine",
    )
    .addOption(new Option("--token <jwt>", "speak with this token").env("PARLEY_TOKEN"))
    .addOption(
      new Option("--url <url>", "where the server is")
        .env("PARLEY_URL")
        .argParser(serverUrl)
        .default("http://127.0.0.1:8080"),
    )
    .addOption(dataOption("the server's data directory, for its secret"))
    .option("--device <name>", "the name of this device");
}

/** The secret of the server on this machine: PARLEY_JWT_SECRET, or the one in its data directory. */
export async function localSecret(dataDirectory: string): Promise<string> {
  const { PARLEY_JWT_SECRET } = process.env;
  if (PARLEY_JWT_SECRET !== undefined && PARLEY_JWT_SECRET !== "") return PARLEY_JWT_SECRET;
  const path = join(dataDirectory, "jwt-secret");
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (cause) {
    throw new Error(
      `no secret to sign with: there is no ${path}. Start the server first, name its --data directory, or set PARLEY_JWT_SECRET`,
      { cause },
    );
  }
}

export async function sign(
  userId: string,
  dataDirectory: string,
  ttlSeconds: number,
): Promise<string> {
  const { signDevelopmentToken } = await import("../embedded/index.ts");
  return signDevelopmentToken(await localSecret(dataDirectory), userId, ttlSeconds, systemClock);
}

/** A function that answers with a token that is good now. */
export function tokens(options: IdentityOptions): () => Promise<string> {
  const { token = "", as: userId } = options;
  if (token !== "" && userId === undefined) return () => Promise.resolve(token);
  if (userId === undefined)
    throw new Error("who are you? Name yourself with --as USER, or give a --token");
  return () => sign(userId, options.data, 3_600);
}

/** Who a token says that its bearer is. */
export function userOf(token: string): string {
  const [, payload = ""] = token.split(".");
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, "base64url").toString("utf8"));
    if (
      typeof claims === "object" &&
      claims !== null &&
      "sub" in claims &&
      typeof claims.sub === "string"
    )
      return claims.sub;
  } catch {
    // Said below.
  }
  throw new Error("the token names no user: it must be a JWT with a sub");
}
