/** The commands that docs/operations.md gives to operators, run as they are written, with the real grpcurl and this checkout's `parley`. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { type Block, blocksOf, lasting } from "../support/document.ts";
import { type Printed, Shell } from "../support/shell.ts";
import { root, textOf } from "../support/tree.ts";

const run = promisify(execFile);
const install = join(root, "test/cluster/servers/grpcurl/install.sh");
/** From nothing, on a small machine. */
export const installMs = 20 * 60_000;

/** Where grpcurl is, built now if it was not before; or why it cannot be had. */
export async function grpcurl(): Promise<{ folder: string } | { lack: string }> {
  try {
    return { folder: (await run(install, { timeout: installMs })).stdout.trim() };
  } catch (error) {
    const said = error instanceof Error && "stderr" in error ? String(error.stderr) : String(error);
    return { lack: `grpcurl cannot be built: ${said.trim().split("\n").at(-1) ?? ""}` };
  }
}

export const blocks: readonly Block[] = blocksOf(textOf("docs/operations.md")).filter(
  ({ section }) => section === "Questions of operators",
);

export const needsCluster = ({ commands }: Block): boolean => commands.startsWith("# in a cluster");

/** What differs each time and in each place, besides what differs in all documents. */
const rules: readonly [pattern: RegExp, instead: string][] = [
  [/\b[A-Za-z0-9+/]{22}==/g, "CLIENT_ID"],
  [/(?<![\w-])[\w-]{22}(?![\w-])/g, "ID"],
  [/127(\.\d+){3}(:\d+)?/g, "ADDRESS"],
  [/\b\d{6,10}\b/g, "NUMBER"],
  [/ +/g, " "],
];

export function settled(text: string): string {
  let said = lasting(text);
  for (const [pattern, instead] of rules) said = said.replace(pattern, instead);
  return said;
}

export interface Place {
  /** Of `parley`. */
  readonly settings: Readonly<Record<string, string>>;
  /** How grpcurl is told where to go. */
  readonly flags: string;
  readonly address: string;
  readonly grpcurlFolder: string;
}

/** A terminal in which the document's commands find a service. */
export class Terminal {
  readonly #shell: Shell;
  readonly #place: Place;

  constructor(place: Place) {
    const { settings, grpcurlFolder } = place;
    const path = `${grpcurlFolder}:${process.env["PATH"] ?? ""}`;
    this.#shell = new Shell(root, { ...settings, PATH: path, HOME: "/nonexistent" });
    this.#place = place;
  }

  async open(): Promise<void> {
    const command = `${JSON.stringify(process.execPath)} ${JSON.stringify(join(root, "cli/parley.js"))}`;
    await this.#shell.run(`npx() { [ "$1" = parley ] && shift && ${command} "$@"; }`);
  }

  /** All that the block's commands print, one after the other; none may fail. */
  async run({ commands }: Pick<Block, "commands">): Promise<string> {
    let all = "";
    for (const line of commands.trim().split("\n")) {
      if (line.startsWith("#")) continue;
      const told = this.told(line);
      const { code, output } = await this.try(told);
      assert.equal(code, 0, `${told}\n${output}`);
      assert.doesNotMatch(output, /no answer|unanswered/, told);
      all += output;
    }
    return all;
  }

  /** As it is told in this place. */
  told(command: string): string {
    const { flags, address } = this.#place;
    return command.replace("-plaintext", flags).replace("127.0.0.1:9090", address);
  }

  /** Whatever comes of it. */
  try(command: string): Promise<Printed> {
    return this.#shell.run(command);
  }

  close(): void {
    this.#shell.close();
  }
}
