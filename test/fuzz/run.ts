/** One run: a process of Parley, inputs at its edge, and what must hold all the while. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { SocketDevice } from "../support/device.ts";
import { tokenFor } from "../support/parley.ts";
import { textTo } from "../support/town.ts";
import { within } from "../support/within.ts";
import { HttpCarrier, SocketCarrier, carryRaw } from "./carriers.ts";
import type { Finding } from "./carriers.ts";
import { pictures, userName, usersMax } from "./corpus.ts";
import { type Input, type Material, inputOf, kinds } from "./inputs.ts";
import type { Asked, Told } from "./server.ts";

export interface FuzzOptions {
  readonly inputs: number;
  readonly seed: number;
  /** Only this one. */
  readonly only?: number;
  readonly say?: (line: string) => void;
}

export interface FuzzReport {
  /** How many of each kind. */
  readonly counts: Readonly<Record<string, number>>;
  readonly findings: readonly string[];
  /** Of the process after a garbage collection, when a fifth of the inputs is done, and when all are. */
  readonly earlyBytes: number;
  readonly lateBytes: number;
  /** Messages between two healthy devices, meanwhile. */
  readonly witnessed: number;
  readonly seconds: number;
}

const workersMax = 12;
/** Each input is answered, or its socket closed, within so long. */
const answerMs = 15_000;
const endMs = 60_000;
const findingsMax = 20;
const witnessEvery = 200;

/** Memory is flat: what a fifth of the inputs left does not grow by more than a quarter and 8 MiB over all of them. */
export const flatBytes = (earlyBytes: number): number => earlyBytes * 1.25 + 8 * 1_024 * 1_024;

/** The process that is fuzzed. */
class Served {
  readonly faults: string[] = [];
  readonly #child: ChildProcess;
  readonly exited: Promise<unknown>;
  #told: (told: Told) => void = () => undefined;
  alive = true;

  constructor() {
    this.#child = fork(new URL("server.ts", import.meta.url), [], {
      execArgv: ["--import", "tsx", "--expose-gc"],
    });
    this.#child.on("message", (told: Told) => {
      if (told.t === "fault") this.faults.push(told.what);
      else this.#told(told);
    });
    this.exited = once(this.#child, "exit").then(() => (this.alive = false));
  }

  async ready(): Promise<URL> {
    const told = await within(endMs, "a Parley", this.#next());
    if (told.t !== "ready") throw new Error("not ready");
    return new URL(told.url);
  }

  async memory(): Promise<number> {
    const told = this.#next();
    this.#ask("memory");
    const answer = await within(answerMs, "the memory of the process", told);
    return answer.t === "memory" ? answer.bytes : 0;
  }

  async end(): Promise<Finding> {
    if (this.alive) this.#ask("end");
    return within(endMs, "the end of the process", this.exited).then(
      () => undefined,
      (error: unknown) => {
        this.#child.kill("SIGKILL");
        return String(error);
      },
    );
  }

  #next(): Promise<Told> {
    return new Promise((resolve) => (this.#told = resolve));
  }

  #ask(asked: Asked): void {
    this.#child.send(asked);
  }
}

/** Two devices that do nothing wrong, and must never notice the rest. */
class Witnesses {
  readonly #url: string;
  #devices: [SocketDevice, SocketDevice] | undefined;
  said = 0;

  constructor(url: string) {
    this.#url = url;
  }

  async begin(): Promise<void> {
    const open = async (userId: string): Promise<SocketDevice> =>
      SocketDevice.open({ url: this.#url, token: await tokenFor(userId), deviceId: "phone" });
    this.#devices = [await open("witness"), await open("other")];
  }

  async talk(): Promise<Finding> {
    const [witness, other] = this.#devices ?? [];
    if (witness === undefined || other === undefined) return "no witnesses";
    try {
      const { conversationId, seq } = await witness.send(textTo("other", "all is well"));
      await within(answerMs, "a healthy message", other.inbox.record(conversationId, seq));
      this.said += 1;
      return undefined;
    } catch (error) {
      return `healthy devices: ${String(error)}`;
    }
  }

  async close(): Promise<void> {
    for (const device of this.#devices ?? []) await device.close();
  }
}

class Run {
  readonly #options: FuzzOptions;
  readonly #served = new Served();
  readonly #counts = new Map<string, number>();
  readonly #findings: string[] = [];
  #next = 0;
  #done = 0;

  constructor(options: FuzzOptions) {
    this.#options = options;
  }

  async run(): Promise<FuzzReport> {
    try {
      return await this.#report();
    } finally {
      const finding = await this.#served.end();
      if (finding !== undefined) this.#findings.push(finding);
    }
  }

  async #report(): Promise<FuzzReport> {
    const { inputs, only } = this.#options;
    const beganMs = performance.now();
    const url = await this.#served.ready();
    const names = Array.from({ length: usersMax }, (_, nth) => userName(nth));
    const tokens = await Promise.all(names.map((name) => tokenFor(name)));
    const material = { tokens, pictures: await pictures() };
    const witnesses = new Witnesses(url.href.replace(/\/$/, ""));
    await witnesses.begin();
    this.#next = only ?? 0;
    if (only === undefined) await this.#upTo(Math.floor(inputs / 5), url, material, witnesses);
    const earlyBytes = this.#served.alive ? await this.#served.memory() : 0;
    await this.#upTo(only === undefined ? inputs : only + 1, url, material, witnesses);
    const lateBytes = this.#served.alive ? await this.#served.memory() : 0;
    this.#checkEnd(earlyBytes, lateBytes);
    await witnesses.close();
    const seconds = (performance.now() - beganMs) / 1_000;
    const counts = Object.fromEntries(kinds.map((kind) => [kind, this.#counts.get(kind) ?? 0]));
    return {
      counts,
      findings: this.#findings,
      earlyBytes,
      lateBytes,
      witnessed: witnesses.said,
      seconds,
    };
  }

  #checkEnd(earlyBytes: number, lateBytes: number): void {
    for (const fault of this.#served.faults.slice(0, findingsMax))
      this.#findings.push(`in the process: ${fault}`);
    if (!this.#served.alive) this.#findings.push("the process is dead");
    if (this.#options.only === undefined && lateBytes > flatBytes(earlyBytes))
      this.#findings.push(`memory grew from ${earlyBytes} to ${lateBytes} bytes`);
  }

  async #upTo(end: number, url: URL, material: Material, witnesses: Witnesses): Promise<void> {
    const http = new HttpCarrier(url);
    const work = async (_: unknown, nth: number): Promise<void> => {
      const socket = new SocketCarrier(url, material.tokens[nth] ?? "", `worker${nth}`);
      const carry = (input: Input): Promise<Finding> => {
        switch (input.kind) {
          case "message":
            return socket.carry(input.bytes);
          case "websocket":
          case "http":
            return carryRaw(url, input.bytes);
          case "call":
          case "media":
            return http.carry(input);
        }
      };
      while (this.#next < end && this.#served.alive && this.#findings.length < findingsMax) {
        const number = this.#next++;
        await this.#one(number, inputOf(this.#options.seed, number, material), carry);
        if (number % witnessEvery === 0) this.#found(number, "witness", await witnesses.talk());
      }
      socket.close();
    };
    await Promise.all(Array.from({ length: Math.min(workersMax, end - this.#next) }, work));
    http.close();
  }

  async #one(
    number: number,
    input: Input,
    carry: (input: Input) => Promise<Finding>,
  ): Promise<void> {
    const { kind } = input;
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1);
    const finding = await within(answerMs, "an answer or a close", carry(input)).catch(String);
    this.#found(number, kind, finding);
    this.#done += 1;
    if (this.#done % 5_000 === 0)
      this.#options.say?.(`${this.#done} inputs, ${this.#findings.length} findings`);
  }

  #found(number: number, kind: string, finding: Finding): void {
    if (finding !== undefined) this.#findings.push(`input ${number} (${kind}): ${finding}`);
  }
}

export const runFuzz = (options: FuzzOptions): Promise<FuzzReport> => new Run(options).run();
