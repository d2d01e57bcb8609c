/** What every browser test stands on: a server of its own with the built page, Chromium, a context for each user, and an eye on all faults. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { readFile, rename } from "node:fs/promises";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { chromium } from "playwright-core";
import type { Browser, BrowserContext, Page } from "playwright-core";
import type { ParleyClient } from "../../client/index.ts";
import { createNodeClient } from "../../client/node.ts";
import { backUp, signDevelopmentToken } from "../../embedded/index.ts";
import { systemClock } from "../../mesh/clock.ts";
import { GatewayService } from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { newFolder, type Settings } from "../support/parley.ts";
import type {} from "./fixture/main.ts";
import { ServerProcess } from "../support/server-process.ts";
import { root } from "../support/tree.ts";

const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
export const host = process.env["BROWSER_TEST_HOST"] ?? "127.0.0.1";

/** The page that people see, or the one without a face, of which the test sees what lies under the other. */
export type Which = "page" | "fixture";

/** One browser and one build of each page serve a whole run. */
let browser: Browser | undefined;
const built = new Map<Which, string>();
let builds: Awaited<ReturnType<typeof newFolder>> | undefined;

async function build(which: Which): Promise<string> {
  const known = built.get(which);
  if (known !== undefined) return known;
  builds ??= await newFolder();
  const directory = join(builds.path, which);
  const from = which === "page" ? "client/web" : "test/browser/fixture";
  const vite = join(root, "node_modules/vite/bin/vite.js");
  const run = promisify(execFile);
  const args = [vite, "build", from, "--outDir", directory, "--emptyOutDir"];
  await run(process.execPath, args, { cwd: root });
  built.set(which, directory);
  return directory;
}

after(async () => {
  await browser?.close();
  await builds?.remove();
});

/** A user with a browser of their own: tabs share what a browser shares. */
export interface Person {
  readonly name: string;
  readonly context: BrowserContext;
  /** The first tab. */
  readonly page: Page;
  /** One more tab, signed in as the same user. */
  newTab(): Promise<Page>;
}

export interface Ground {
  readonly url: string;
  /** Opens the page, at this address or the server's own, and signs in by name. */
  person(name: string, at?: string): Promise<Person>;
  /** Opens the page in this tab and signs in. */
  signIn(page: Page, name: string): Promise<void>;
  /** A client of this user, outside of any browser. */
  client(name: string): Promise<ParleyClient>;
  /** A context whose faults are watched, and nothing opened in it. */
  context(): Promise<BrowserContext>;
  /** Faults of this kind are what the test is about: they do not fail it. */
  expect(fault: RegExp): void;
  /** As an operator does it. */
  erase(name: string): Promise<void>;
  /** kill -9, and the same server again at the same address. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Of the server's data as they are now. */
  backUp(): Promise<void>;
  /** While no server runs: the data are those of the backup. */
  restore(): Promise<void>;
}

/** Registers the hooks for the suite around it. Where there is no browser, all of the suite is skipped, and says why. */
export function openGround(
  which: Which = "page",
  given: Settings | (() => Promise<Settings>) = {},
): Ground {
  const faults: string[] = [];
  const contexts: BrowserContext[] = [];
  const clients: ParleyClient[] = [];
  let expected: RegExp[] = [];
  let folder: Awaited<ReturnType<typeof newFolder>> | undefined;
  let server: ServerProcess | undefined;
  let url = "";
  let directory = "";
  let settings: Settings = {};

  async function start(): Promise<void> {
    folder ??= await newFolder();
    const port = url === "" ? "0" : new URL(url).port;
    const own = { PARLEY_HOST: host, PARLEY_PORT: port, PARLEY_PAGE: directory };
    server = await ServerProcess.start(folder.path, {
      PARLEY_JWT_SECRET: "",
      ...own,
      ...settings,
    });
    url = server.url;
  }

  before(async function () {
    if (!existsSync(executablePath)) {
      console.log(`skipped: no browser at ${executablePath} (Debian's package chromium)`);
      this.skip();
    }
    this.timeout(180_000);
    directory = await build(which);
    settings = typeof given === "function" ? await given() : given;
    browser ??= await chromium.launch({ executablePath, args: ["--no-sandbox"] });
    await start();
  });

  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.close()));
    await Promise.all(contexts.splice(0).map((context) => context.close()));
    const found = faults.splice(0).filter((fault) => !expected.some((one) => one.test(fault)));
    expected = [];
    assert.deepEqual(found, [], "the page's console has faults");
  });

  after(async () => {
    if (server?.alive) await server.end("SIGTERM");
    await folder?.remove();
  });

  async function context(): Promise<BrowserContext> {
    if (browser === undefined) throw new Error("no browser");
    const made = await browser.newContext();
    // tsx marks functions with it, those too that run in the page.
    await made.addInitScript("globalThis.__name = (run) => run");
    contexts.push(made);
    watch(made, (fault) => faults.push(fault));
    return made;
  }

  async function enter(page: Page, name: string, at = url): Promise<void> {
    await page.goto(at);
    await (which === "page" ? signIn(page, name) : openFace(page, name));
  }

  return {
    signIn: (page, name) => enter(page, name),
    get url() {
      return url;
    },
    context,
    start,
    backUp: () => backUp(folder?.path ?? "", `${folder?.path}-backup`),
    async restore() {
      await folder?.remove();
      await rename(`${folder?.path}-backup`, folder?.path ?? "");
    },
    async client(name) {
      const secret = await readFile(join(folder?.path ?? "", "jwt-secret"), "utf8");
      const token = await signDevelopmentToken(secret.trim(), name, 3_600, systemClock);
      const client = createNodeClient({ url, token });
      clients.push(client);
      client.connect();
      await client.ready();
      return client;
    },
    expect: (fault) => void expected.push(fault),
    async erase(userId) {
      const transport = createGrpcTransport({ baseUrl: server?.meshUrl ?? "" });
      const operator = createClient(GatewayService, transport);
      for await (const step of operator.eraseUser({ userId })) assert.ok(step.receipt);
    },
    async kill() {
      await server?.end("SIGKILL");
    },
    async person(name, at = url) {
      const made = await context();
      const newTab = async (): Promise<Page> => {
        const page = await made.newPage();
        await enter(page, name, at);
        return page;
      };
      return { name, context: made, page: await newTab(), newTab };
    },
  };
}

/** Signs in on the page without a face. */
async function openFace(page: Page, name: string): Promise<void> {
  await page.locator("body[data-ready]").waitFor({ state: "attached" });
  await page.evaluate(async (user) => {
    const { parley } = globalThis;
    parley.open(await parley.signIn.byName(user));
  }, name);
}

/** Errors of scripts, refusals by the policy, and whatever else the browser complains of. */
function watch(context: BrowserContext, add: (fault: string) => void): void {
  context.on("console", (message) => {
    if (message.type() === "error") add(`${message.text()} (${message.location().url})`);
  });
  context.on("weberror", (error) => add(String(error.error().stack ?? error.error())));
}

async function signIn(page: Page, name: string): Promise<void> {
  const box = page.getByRole("textbox").first();
  await box.fill(name);
  await box.press("Enter");
  await page.getByRole("navigation", { name: "Conversations" }).waitFor();
}
