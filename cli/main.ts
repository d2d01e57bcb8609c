/** The `parley` command. */
import { readFileSync } from "node:fs";
import { ConnectError } from "@connectrpc/connect";
import { Command } from "commander";
import { addBackup } from "./backup.ts";
import { addBench } from "./bench.ts";
import { addChat } from "./chat.ts";
import { addErase } from "./erase.ts";
import { addExport } from "./export.ts";
import { addMessageCommands } from "./messages.ts";
import { addOperators } from "./operators.ts";
import { addProcesses } from "./processes.ts";
import { addRetention } from "./retention.ts";
import { addStart } from "./start.ts";
import { addToken } from "./token.ts";

function version(): string {
  for (const path of ["../package.json", "../../package.json"]) {
    try {
      const parsed: unknown = JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));
      if (typeof parsed === "object" && parsed !== null && "version" in parsed)
        return String(parsed.version);
    } catch {
      // The built command is one folder deeper.
    }
  }
  return "unknown";
}

const program = new Command("parley")
  .description("A chat messaging service: run it, talk through it, look into it, measure it.")
  .version(version())
  .showHelpAfterError("(try --help)");
addStart(program);
addProcesses(program);
addToken(program);
addMessageCommands(program);
addChat(program);
addBackup(program);
addErase(program, version());
addExport(program, version());
addRetention(program);
addBench(program);
addOperators(program);

try {
  await program.parseAsync();
} catch (error) {
  const { name, message } = error instanceof ConnectError ? error : ConnectError.from(error);
  console.error(
    `parley: ${error instanceof Error && !(error instanceof ConnectError) ? error.message : message || name}`,
  );
  process.exitCode = 1;
}
