/** The documents' commands do what the documents say: each is run as a reader would run it, and prints what is written. */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { commandFile } from "../support/command.ts";
import { blocksOf, lasting } from "../support/document.ts";
import type { Block } from "../support/document.ts";
import { newFolder } from "../support/parley.ts";
import { picture } from "../support/pictures.ts";
import { ServerProcess, spawnParley } from "../support/server-process.ts";
import { Shell } from "../support/shell.ts";
import { runTool, textOf } from "../support/tree.ts";
import { within } from "../support/within.ts";

const documents = ["README.md", "docs/protocol.md", "docs/operations.md"];

/** What the tests do themselves instead. */
const installs = /^npm install && npm (start|test)$/;

/** Is run by tests of its own (test/operations/), with grpcurl. */
const elsewhere = "Questions of operators";

/** Answers end without an end of line: several of them come as lines in the documents. */
const asLines = (output: string): string => output.replaceAll("}{", "}\n{");

for (const document of documents) {
  describe(`${document} says what happens`, () => {
    const blocks = blocksOf(textOf(document)).filter(({ section }) => section !== elsewhere);
    let folder: Awaited<ReturnType<typeof newFolder>>;
    let server: ServerProcess;
    let shell: Shell;
    let settings: Record<string, string>;

    before(async function () {
      this.timeout(30_000);
      folder = await newFolder();
      const data = join(folder.path, "data");
      // As it is started without settings, but for the ports and the directory.
      server = await ServerProcess.start(data, { PARLEY_JWT_SECRET: "" });
      settings = { PARLEY_URL: server.url, PARLEY_DATA: data, HOME: folder.path };
      const work = join(folder.path, "work");
      await mkdir(work);
      await writeFile(join(work, "photo.png"), await picture("png", { width: 64, height: 48 }));
      shell = new Shell(work, { ...settings, PATH: process.env["PATH"] ?? "" });
      // The command of this checkout; that npx finds it is a test of its own.
      const command = `${JSON.stringify(process.execPath)} ${JSON.stringify(commandFile())}`;
      await shell.run(`npx() { [ "$1" = parley ] && shift && ${command} "$@"; }`);
    });
    after(async () => {
      shell.close();
      await server.end("SIGTERM");
      await folder.remove();
    });

    it("has commands", () => {
      assert.ok(blocks.length > 0);
    });

    for (const block of blocks.filter(({ terminal }) => terminal === undefined)) {
      const [, script] = installs.exec(block.commands.trim()) ?? [];
      if (script !== undefined) {
        it(`${block.name}: there is such a script`, () => {
          const { scripts } = JSON.parse(textOf("package.json")) as {
            scripts: Record<string, string>;
          };
          assert.ok(scripts[script]);
        });
        continue;
      }
      it(block.name, async () => {
        const { host } = new URL(server.url);
        const commands = block.commands.replaceAll("127.0.0.1:8080", host);
        const { code, output } = await shell.run(commands);
        assert.equal(code, 0, output);
        assert.doesNotMatch(output, /"code":"[a-z_]+","message"/);
        assert.doesNotMatch(output, /^parley: /m);
        if (block.output === undefined) return;
        const expected = block.output.replaceAll("127.0.0.1:8080", host);
        assert.equal(lasting(asLines(output)), lasting(expected));
      });
    }

    const terminals = blocks.filter(({ terminal }) => terminal !== undefined);
    if (terminals.length === 2) {
      it("lets two people talk from two terminals", async function () {
        this.timeout(30_000);
        const [one, other] = terminals.map((block) => new Chat(block, settings));
        assert.ok(one && other);
        try {
          one.type("Hello from the first terminal");
          await other.until(/Hello from the first terminal/);
          other.type("And hello from the second");
          await one.until(/And hello from the second/);
        } finally {
          await Promise.all([one.end(), other.end()]);
        }
      });
    }
  });
}

/** A chat with pipes instead of a terminal. */
class Chat {
  #output = "";
  #look = (): void => undefined;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;

  constructor({ commands }: Block, settings: Record<string, string>) {
    const [line = ""] = commands.split("\n").filter((one) => one.startsWith("npx parley "));
    const args = line.split(" ").slice(2);
    this.#child = spawnParley(args, settings, "pipe");
    const add = (chunk: Buffer): void => {
      this.#output += chunk.toString();
      this.#look();
    };
    this.#child.stdout?.on("data", add);
    this.#child.stderr?.on("data", add);
    this.#ended = new Promise((resolve) => this.#child.once("close", () => resolve()));
  }

  type(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  until(pattern: RegExp): Promise<void> {
    const found = new Promise<void>((resolve) => {
      this.#look = () => {
        if (pattern.test(this.#output)) resolve();
      };
      this.#look();
    });
    return within(15_000, `${String(pattern)} in a chat`, found).catch((cause: unknown) => {
      throw new Error(`it said: ${this.#output}`, { cause });
    });
  }

  async end(): Promise<void> {
    this.#child.stdin?.end();
    this.#child.kill("SIGTERM");
    await within(10_000, "the end of a chat", this.#ended).catch(() => this.#child.kill("SIGKILL"));
  }
}

describe("npx", () => {
  it("finds the command of a checkout", () => {
    const { version } = JSON.parse(textOf("package.json")) as { version: string };
    // Where npx runs the tests themselves (another Node), its own choice of package is none of this one's.
    const clean = ["-u", "npm_config_package", "npx", "--no-install", "parley", "--version"];
    const { code, output } = runTool("env", clean);
    assert.equal(code, 0, output);
    assert.ok(output.split("\n").includes(version), output);
  });
});
