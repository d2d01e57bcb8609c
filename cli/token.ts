/** `parley token USER`: a token signed with the secret of the server on this machine. */
import type { Command } from "commander";
import { wholeNumber } from "./arguments.ts";
import { dataOption, sign } from "./identity.ts";

export function addToken(program: Command): void {
  program
    .command("token")
    .description("print a token for a user, signed with the secret of the server on this machine")
    .argument("<user>", "the user's id")
    .option("--ttl <seconds>", "how long it is good for", wholeNumber, 86_400)
    .addOption(dataOption("the server's data directory"))
    .option("--json", "print user, token and end as JSON")
    .action(async (user: string, options: { ttl: number; data: string; json?: true }) => {
      const { ttl: ttlSeconds } = options;
      if (ttlSeconds < 1) throw new Error("--ttl takes a whole number of seconds");
      const token = await sign(user, options.data, ttlSeconds);
      console.log(options.json ? JSON.stringify({ user, token, ttlSeconds }) : token);
    });
}
