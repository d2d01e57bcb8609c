/** The `parley` command. */
import { readFileSync } from "node:fs";
import { ConnectError } from "@connectrpc/connect";
import { Command } from "commander";
import { serviceNames } from "../mesh/directory.ts";

type Add = (program: Command) => Promise<void>;

const addMessages: Add = async (to) => (await import("./messages.ts")).addMessageCommands(to);
const addCopies: Add = async (to) => (await import("./backup.ts")).addBackup(to);

const addOperators: Add = async (to) => (await import("./operators.ts")).addOperators(to);

/** What adds each command. A command loads what it needs itself: one that prints a token does not wait for a server's sources. */
const commands = new Map<string, Add>([
  ["start", async (to) => (await import("./start.ts")).addStart(to)],
  ...serviceNames.map((name): [string, Add] => [
    name,
    async (to) => (await import("./processes.ts")).addService(to, name),
  ]),
  ["migrate", async (to) => (await import("./processes.ts")).addMigrate(to)],
  ["token", async (to) => (await import("./token.ts")).addToken(to)],
  ["send", addMessages],
  ["history", addMessages],
  ["chat", async (to) => (await import("./chat.ts")).addChat(to)],
  ["backup", addCopies],
  ["verify", addCopies],
  ["erase", async (to) => (await import("./erase.ts")).addErase(to, version())],
  ["export", async (to) => (await import("./export.ts")).addExport(to, version())],
  ["retention", async (to) => (await import("./retention.ts")).addRetention(to)],
  ...["processes", "connections", "sessions", "drain", "shard", "move", "explain", "log"].map(
    (name): [string, Add] => [name, addOperators],
  ),
  ["bench", async (to) => (await import("./bench.ts")).addBench(to)],
]);

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
/** Without a command that is known, all of them are told. */
const asked = commands.get(process.argv[2] ?? "");
for (const add of asked === undefined ? new Set(commands.values()) : [asked]) await add(program);

/** A command that waits is not done; the clock's timers alone would let the process end. */
const waiting = setInterval(() => undefined, 60_000);
try {
  await program.parseAsync();
} catch (error) {
  const { name, message } = error instanceof ConnectError ? error : ConnectError.from(error);
  console.error(
    `parley: ${error instanceof Error && !(error instanceof ConnectError) ? error.message : message || name}`,
  );
  process.exitCode = 1;
} finally {
  clearInterval(waiting);
}
