/** `parley backup` and `parley verify`: the data directory of one process, copied while it runs, and looked through. */
import { rm } from "node:fs/promises";
import type { Command } from "commander";
import { dataOption } from "./identity.ts";
import { backUp, verifyData } from "../embedded/index.ts";
import { systemClock } from "../mesh/clock.ts";
import { createLog } from "../mesh/log.ts";
import { systemRandom } from "../mesh/random.ts";

const settings = {
  clock: systemClock,
  random: systemRandom,
  log: createLog({ level: "warn", to: process.stderr }),
};

export function addBackup(program: Command): void {
  program
    .command("backup")
    .description("copy a data directory, while its server runs or not, and verify the copy")
    .argument("<directory>", "a new directory for the copy")
    .addOption(dataOption("the server's data directory"))
    .action(async (directory: string, { data }: { data: string }) => {
      await backUp(data, directory);
      try {
        await verify(directory);
      } catch (error) {
        await rm(directory, { recursive: true, force: true });
        throw error;
      }
    });
  program
    .command("verify")
    .description("look whether a data directory that no server has is whole: all logs, all media")
    .argument("<directory>", "a backup, or the data directory of a server that is stopped")
    .action(verify);
}

async function verify(directory: string): Promise<void> {
  const { conversations, records, media, findings } = await verifyData(directory, settings);
  if (findings.length > 0) throw new Error(`${directory} is not whole: ${findings.join("; ")}`);
  console.log(
    `${directory} is whole: ${records} records in ${conversations} conversations, ${media} media`,
  );
}
