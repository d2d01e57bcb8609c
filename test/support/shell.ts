/** A shell that keeps its variables from command to command, as a reader's terminal does. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { within } from "./within.ts";

const commandMs = 20_000;
const marker = "=== end of the commands ===";

export interface Printed {
  readonly code: number;
  readonly output: string;
}

export class Shell {
  readonly #child: ChildProcess;
  #output = "";
  #look = (): void => undefined;

  constructor(cwd: string, env: Record<string, string>) {
    this.#child = spawn("bash", ["--noprofile", "--norc"], { cwd, env, stdio: "pipe" });
    const add = (chunk: Buffer): void => {
      this.#output += chunk.toString();
      this.#look();
    };
    this.#child.stdout?.on("data", add);
    this.#child.stderr?.on("data", add);
    this.#child.stdin?.write("exec 2>&1\n");
  }

  /** Resolves with all that the commands printed, and the code of the last one. */
  run(commands: string): Promise<Printed> {
    this.#output = "";
    const done = new Promise<Printed>((resolve) => {
      this.#look = () => {
        const end = this.#output.indexOf(`${marker} `);
        const [, code] = /^(\d+)\n/.exec(this.#output.slice(end + marker.length + 1)) ?? [];
        if (end === -1 || code === undefined) return;
        resolve({ code: Number(code), output: this.#output.slice(0, end) });
      };
    });
    // Commands must not read the shell's own input. What prints no end of line is given one.
    this.#child.stdin?.write(
      `{ ${commands.trim()}\n} </dev/null\ncode=$?; echo; echo "${marker} $code"\n`,
    );
    return within(commandMs, commands, done);
  }

  close(): void {
    this.#child.stdin?.end();
    this.#child.kill();
  }
}
