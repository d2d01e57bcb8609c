import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type Parley, parleyConfig, startParley } from "../../embedded/index.ts";
import { createLog } from "../../mesh/log.ts";
import { commandFile } from "../support/command.ts";

const waitMs = 20_000;

/** A `parley chat` with a pipe on each side. */
class Chat {
  readonly process: ChildProcessWithoutNullStreams;
  readonly lines: string[] = [];
  readonly #exit: Promise<unknown[]>;
  errors = "";
  #heard: (() => void)[] = [];

  constructor(world: World, options: readonly string[]) {
    const words = ["chat", "--url", world.url, "--data", world.data, ...options];
    this.process = spawn(process.execPath, [commandFile(), ...words], {
      env: { ...process.env, XDG_STATE_HOME: world.state, PARLEY_TOKEN: "", PARLEY_JWT_SECRET: "" },
    });
    this.#exit = once(this.process, "exit");
    createInterface({ input: this.process.stdout }).on("line", (line) => {
      this.lines.push(line);
      for (const heard of this.#heard.splice(0)) heard();
    });
    this.process.stderr.on("data", (data: Buffer) => {
      this.errors += data.toString();
    });
  }

  say(line: string): void {
    this.process.stdin.write(`${line}\n`);
  }

  /** Resolves once such a line was printed. */
  async prints(pattern: RegExp): Promise<string> {
    const signal = AbortSignal.timeout(waitMs);
    for (;;) {
      const found = this.lines.find((line) => pattern.test(line));
      if (found !== undefined) return found;
      await new Promise<void>((resolve, reject) => {
        this.#heard.push(resolve);
        signal.addEventListener("abort", () =>
          reject(new Error(`no ${pattern.source} in:\n${this.lines.join("\n")}\n${this.errors}`)),
        );
      });
    }
  }

  async ends(): Promise<unknown> {
    this.process.stdin.end();
    const [code] = await this.#exit;
    return code;
  }

  async kill(): Promise<void> {
    this.process.kill("SIGKILL");
    await this.#exit;
  }
}

async function until(holds: () => boolean): Promise<void> {
  const signal = AbortSignal.timeout(waitMs);
  while (!holds()) {
    signal.throwIfAborted();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

interface World {
  url: string;
  readonly data: string;
  readonly state: string;
}

describe("parley chat, by two processes through pipes", function () {
  this.timeout(60_000);
  const folder = mkdtempSync(join(tmpdir(), "parley-chat-"));
  const world: World = { url: "", data: join(folder, "data"), state: join(folder, "state") };
  const chats: Chat[] = [];
  let parley: Parley | undefined;

  async function start(port: number): Promise<void> {
    const config = parleyConfig({
      PARLEY_PORT: String(port),
      PARLEY_MESH_PORT: "0",
      PARLEY_DATA: world.data,
      PARLEY_DRAIN_MS: "0",
    });
    parley = await startParley(config, { log: createLog({ level: "fatal" }) });
    world.url = `http://127.0.0.1:${parley.port}`;
  }

  function chat(...options: string[]): Chat {
    const made = new Chat(world, options);
    chats.push(made);
    return made;
  }

  function stateFile(user: string): string {
    return join(world.state, "parley", `${user}@${new URL(world.url).host.replace(":", "-")}.json`);
  }

  before(() => start(0));
  after(async () => {
    for (const one of chats) await one.kill();
    await parley?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it("talks both ways, with ticks, presence and typing's absence", async () => {
    const alice = chat("--as", "alice", "--with", "bob");
    alice.say("hello");
    await alice.prints(/^✓ #1 sent$/);
    const bob = chat("--as", "bob", "--with", "alice");
    await bob.prints(/^alice: hello$/);
    await alice.prints(/^✓✓ #1 read$/);
    await alice.prints(/^\* bob is online$/);
    bob.say("hi alice");
    await alice.prints(/^bob: hi alice$/);
    await bob.prints(/^✓✓ #2 read$/);
    assert.equal(await alice.ends(), 0);
    assert.equal(await bob.ends(), 0);
    assert.deepEqual(alice.errors + bob.errors, "");
    assert.ok(!alice.lines.includes("alice: hello"), "its own message came back as a line");
  });

  it("is the same device the next time, and gets what it missed, once", async () => {
    const device = (): unknown => {
      const file = stateFile("bob");
      const kept: unknown = JSON.parse(readFileSync(file, "utf8"));
      return typeof kept === "object" && kept !== null && "device" in kept
        ? kept.device
        : undefined;
    };
    const before = device();
    const alice = chat("--as", "alice", "--with", "bob", "--json");
    alice.say("are you there?");
    await alice.prints(/"status":"sent"/);
    const bob = chat("--as", "bob", "--with", "alice");
    await bob.prints(/^alice: are you there\?$/);
    assert.equal(await bob.ends(), 0);
    assert.deepEqual(
      bob.lines.filter((line) => line.startsWith("alice: ")),
      ["alice: are you there?"],
    );
    assert.equal(typeof before, "string");
    assert.equal(device(), before);
    await alice.ends();
    const again = chat("--as", "bob", "--with", "alice", "--json");
    await again.prints(/"type":"synced"/);
    await again.ends();
    assert.deepEqual(
      again.lines.filter((line) => line.includes('"message"')),
      [],
    );
    assert.deepEqual(
      readdirSync(join(world.state, "parley")).filter((name) => name.endsWith(".lock")),
      [],
    );
  });

  it("keeps what could not be sent, over a kill, and sends it once the server is back (P2)", async () => {
    const { port } = parley ?? { port: 0 };
    await parley?.close();
    const lost = chat("--as", "alice", "--with", "bob", "--json");
    lost.say("while you were away");
    await lost.prints(/"status":"pending"/);
    await lost.prints(/"state":"waiting"/);
    await until(() => readFileSync(stateFile("alice"), "utf8").includes('"send/'));
    await lost.kill();
    await start(port);
    const alice = chat("--as", "alice", "--with", "bob");
    assert.equal(await alice.ends(), 0);
    await alice.prints(/^✓ #4 sent$/);
    const reader = chat("--as", "bob", "--with", "alice");
    await reader.prints(/^alice: while you were away$/);
    await reader.ends();
  });

  it("gives a second window a device of its own", async () => {
    const one = chat("--as", "alice", "--with", "bob");
    await one.prints(/^\* connected$/);
    const other = chat("--as", "alice", "--with", "bob");
    await other.prints(/^\* connected$/);
    other.say("from the other window");
    await one.prints(/^alice: from the other window$/);
    assert.equal(await other.ends(), 0);
    assert.equal(await one.ends(), 0);
  });

  it("refuses what cannot be, and says what to do", async () => {
    const nobody = chat("--with", "bob");
    assert.equal(await nobody.ends(), 1);
    assert.match(nobody.errors, /--as USER/);
    const state = join(folder, "taken.json");
    writeFileSync(`${state}.lock`, String(process.pid));
    const taken = chat("--as", "alice", "--state", state);
    assert.equal(await taken.ends(), 1);
    assert.match(taken.errors, /another chat uses .*--state/);
    const stranger = chat(
      "--token",
      `x.${Buffer.from('{"sub":"eve"}').toString("base64url")}.y`,
      "--with",
      "bob",
      "--no-state",
    );
    assert.equal(await stranger.ends(), 1);
    assert.match(stranger.errors, /does not take the token/);
  });
});
