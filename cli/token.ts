/** `parley token USER`: a token signed with the secret of the server on this machine. */
import type { Command } from "commander";
import { sign } from "./identity.ts";

export function addToken(program: Command): void {
  program
    .command("token")
    .description("print a token for a user, signed with the secret of the server on this machine")
    .argument("<user>", "the user's id")
    .option("--ttl <seconds>", "how long it is good for", "86400")
    .option(
      "--data <directory>",
      "the server's data directory (or set PARLEY_DATA)",
      process.env["PARLEY_DATA"] ?? "./data",
    )
    .option("--json", "print user, token and end as JSON")
    .action(async (user: string, options: { ttl: string; data: string; json?: true }) => {
      const ttlSeconds = Number(options.ttl);
      if (!Number.isSafeInteger(ttlSeconds) || ttlSeconds < 1)
        throw new Error("--ttl takes a whole number of seconds");
      const token = await sign(user, options.data, ttlSeconds);
      console.log(options.json ? JSON.stringify({ user, token, ttlSeconds }) : token);
    });
}
