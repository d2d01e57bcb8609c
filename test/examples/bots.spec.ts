/** The bots in other languages: built and run as their READMEs say, and answering each message once, whatever ends meanwhile. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { createNodeClient } from "../../client/node.ts";
import type { ParleyClient } from "../../client/client.ts";
import { newFolder, tokenFor } from "../support/parley.ts";
import { Proxy } from "../support/proxy.ts";
import type { Target } from "../support/proxy.ts";
import { ServerProcess } from "../support/server-process.ts";
import { runTool } from "../support/tree.ts";
import { asked, within } from "../support/within.ts";
import { commandsOf, newWorkshop } from "./workshop.ts";
import type { Commanded, Workshop } from "./workshop.ts";

const conversation = "d:alice:pong";

/** From nothing: Maven fetches one file after another. */
const buildMs = 15 * 60_000;

const languages: readonly { name: string; readme: string; tools: readonly string[][] }[] = [
  { name: "Go", readme: "examples/go/bot/README.md", tools: [["go", "version"]] },
  {
    name: "Python",
    readme: "examples/python/README.md",
    tools: [["python3", "-c", "import sys, venv, ensurepip; assert sys.version_info >= (3, 11)"]],
  },
  {
    name: "Java",
    readme: "examples/java/README.md",
    tools: [
      ["javac", "--release", "17", "--version"],
      ["mvn", "--version"],
    ],
  },
];

/** Why an example cannot be built here; undefined: it can. */
function lackOf(tools: readonly string[][]): string | undefined {
  for (const [command = "", ...args] of tools) {
    try {
      const { code, output } = runTool(command, args);
      if (code !== 0) return `${command} says: ${output.trim()}`;
    } catch {
      return `there is no ${command}`;
    }
  }
  return undefined;
}

/** A Parley that can be killed, the way to it of the bot and of a user of the SDK, and all that the user was answered. */
class Scene {
  readonly answers: string[] = [];
  readonly botsWay: Proxy;
  readonly alice: ParleyClient;
  readonly #alicesWay: Proxy;
  readonly #folder: { path: string; remove(): Promise<void> };
  #server: ServerProcess;
  #answered = (): void => undefined;

  private constructor(
    server: ServerProcess,
    ways: { bots: Proxy; alices: Proxy },
    alice: ParleyClient,
    folder: { path: string; remove(): Promise<void> },
  ) {
    this.botsWay = ways.bots;
    this.#alicesWay = ways.alices;
    this.alice = alice;
    this.#folder = folder;
    this.#server = server;
    alice.on("record", ({ record, own }) => {
      if (own || record.body.case !== "message") return;
      this.answers.push(record.body.value.text);
      this.#answered();
    });
    alice.connect();
  }

  static async open(): Promise<Scene> {
    const folder = await newFolder();
    const server = await ServerProcess.start(join(folder.path, "data"));
    const bots = await Proxy.open([targetOf(server)]);
    const alices = await Proxy.open([targetOf(server)]);
    const alice = createNodeClient({ url: alices.url, token: await tokenFor("alice") });
    return new Scene(server, { bots, alices }, alice, folder);
  }

  /** Alice writes "ping N" for each. */
  ping(...numbers: number[]): Promise<unknown> {
    return Promise.all(
      numbers.map((number) => this.alice.send({ user: "pong" }, `ping ${number}`).sent),
    );
  }

  /** Until Alice has been answered `count` times in all. */
  async answeredAll(count: number): Promise<void> {
    const all = new Promise<void>((resolve) => {
      this.#answered = () => {
        if (this.answers.length >= count) resolve();
      };
      this.#answered();
    });
    await within(60_000, `${count} answers`, all).catch((cause: unknown) => {
      throw new Error(`there are ${this.answers.join(", ")}`, { cause });
    });
    assert.deepEqual(
      this.answers,
      Array.from({ length: count }, (_, at) => `pong ${at + 1}`),
    );
  }

  async killServer(): Promise<void> {
    await this.#server.end("SIGKILL");
    this.#server = await ServerProcess.start(join(this.#folder.path, "data"));
    for (const way of [this.botsWay, this.#alicesWay]) way.targets = [targetOf(this.#server)];
  }

  async close(): Promise<void> {
    await this.alice.close();
    await Promise.all([this.botsWay.close(), this.#alicesWay.close()]);
    await this.#server.end("SIGTERM");
    await this.#folder.remove();
  }
}

function targetOf({ url }: ServerProcess): Target {
  const { hostname, port } = new URL(url);
  return { host: hostname, port: Number(port) };
}

for (const { name, readme, tools } of languages) {
  describe(`the bot in ${name}`, () => {
    const commands = commandsOf(readme);
    let workshop: Workshop | undefined;
    let scene: Scene | undefined;
    let bot: Commanded | undefined;

    const start = (url: string, token?: string): Commanded => {
      assert.ok(workshop && scene);
      let run = commands.run.replaceAll("http://127.0.0.1:8080", url);
      assert.ok(run.includes(url));
      run = run.replace("$(npx parley token pong)", token ?? "$TOKEN");
      return workshop.run(run, { TOKEN: token ?? tokenOfBot });
    };
    let tokenOfBot = "";

    before(async function () {
      this.timeout(buildMs);
      const lack = lackOf(tools);
      if (lack !== undefined) {
        console.log(`    skipped: the bot in ${name}: ${lack}`);
        this.skip();
      }
      tokenOfBot = await tokenFor("pong");
      workshop = await newWorkshop();
      const build = workshop.run(commands.build);
      const code = await within(buildMs, commands.build, build.ended);
      assert.equal(code, 0, build.output);
      scene = await Scene.open();
    });
    after(async () => {
      await bot?.end("SIGKILL");
      await scene?.close();
      await workshop?.remove();
    });

    it("answers messages once and in order, written before it came and after (P2, P3)", async () => {
      assert.ok(scene);
      await scene.ping(1, 2, 3);
      bot = start(scene.botsWay.url);
      await scene.answeredAll(3);
      await scene.ping(4, 5, 6, 7, 8);
      await scene.answeredAll(8);
    });

    it("answers once what it was not told that it had answered, when it was cut off (P2)", async () => {
      assert.ok(scene && bot);
      await bot.prints(/answered/, 8);
      // What the server says comes late: the answer to the send is still under way when Alice has the message.
      scene.botsWay.set({ t: "delay", ms: 1_500 }, { direction: "down" });
      await scene.ping(9);
      await scene.answeredAll(9);
      assert.doesNotMatch(bot.output, /#17 with #18/);
      scene.botsWay.cut();
      scene.botsWay.heal();
      await bot.prints(/#17 with #18/);
      await scene.ping(10);
      await scene.answeredAll(10);
    });

    it("goes on when the server was killed while messages came (P1, P2, P3)", async () => {
      assert.ok(scene && bot);
      const pings = scene.ping(...Array.from({ length: 20 }, (_, at) => at + 11));
      await bot.prints(/answered/, 12);
      await scene.killServer();
      await pings;
      await scene.answeredAll(30);
    });

    it("goes on where it was when it was killed itself (P2)", async () => {
      assert.ok(scene && bot);
      const pings = scene.ping(31, 32, 33, 34, 35);
      await bot.end("SIGKILL");
      await pings;
      bot = start(scene.botsWay.url);
      await scene.ping(36);
      await scene.answeredAll(36);
    });

    it("has answered each message once, and read all (P2, P5)", async () => {
      assert.ok(scene && bot);
      const { alice } = scene;
      const { records } = await alice.history(conversation, { afterSeq: 0, limit: 200 });
      const said = records.map(({ senderId, body }) => ({
        senderId,
        text: body.case === "message" ? body.value.text : "",
      }));
      for (const [sender, word] of [
        ["alice", "ping"],
        ["pong", "pong"],
      ])
        assert.deepEqual(
          said.filter(({ senderId }) => senderId === sender).map(({ text }) => text),
          Array.from({ length: 36 }, (_, at) => `${word} ${at + 1}`),
        );
      const { seq } = await alice.send({ user: "pong" }, "not for an answer").sent;
      await asked(20_000, `the bot's cursor, which said ${bot.output}`, () => {
        const read = alice.conversation(conversation)?.peersReadSeq ?? 0;
        return Promise.resolve(read >= seq ? true : undefined);
      });
      assert.equal(scene.answers.length, 36);
    });

    it("ends where its token is not good, and does not come back again and again", async () => {
      assert.ok(scene);
      const refused = start(scene.botsWay.url, await tokenFor("pong", -60));
      const code = await within(60_000, "its end", refused.ended);
      assert.notEqual(code, 0, refused.output);
      assert.match(refused.output, /unauthenticated/i);
    });
  });
}
