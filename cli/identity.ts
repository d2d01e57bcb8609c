/** Who the command speaks as: a given token, or one that is signed with the secret of a server on this machine. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import { systemClock } from "../mesh/clock.ts";

/** Options of every command that talks to a server. */
export interface IdentityOptions {
  readonly url: string;
  readonly as?: string;
  readonly token?: string;
  readonly data: string;
  readonly device?: string;
}

export function withIdentity(command: Command): Command {
  const { PARLEY_URL, PARLEY_DATA } = process.env;
  return command
    .option(
      "--as <user>",
      "speak as this user, with a token signed by the secret of the server on this machine",
    )
    .option("--token <jwt>", "speak with this token (or set PARLEY_TOKEN)")
    .option(
      "--url <url>",
      "where the server is (or set PARLEY_URL)",
      PARLEY_URL ?? "http://127.0.0.1:8080",
    )
    .option(
      "--data <directory>",
      "the server's data directory, for its secret (or set PARLEY_DATA)",
      PARLEY_DATA ?? "./data",
    )
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
  const given = options.token ?? process.env["PARLEY_TOKEN"];
  if (given !== undefined && given !== "" && options.as === undefined)
    return () => Promise.resolve(given);
  const userId = options.as;
  if (userId === undefined)
    throw new Error("who are you? Name yourself with --as USER, or give a --token");
  return () => sign(userId, options.data, 3_600);
}
