/** How light the page is: what a first load weighs, when it can be used, and whether it stays so under a flood and in a long conversation. */
import assert from "node:assert/strict";
import type { Page } from "playwright-core";
import { openGround } from "./ground.ts";

const scriptBytesMax = 120 * 1024;
const interactiveMsMax = 1_000;
const frameMsMax = 50;
const floodPerSecond = 50;
const floodSeconds = 10;
const longLog = Number(process.env["LONG_LOG"] ?? 100_000);

interface Work {
  /** The work of each task of the page's main thread that took 50 ms and more, without what other processes took from it. */
  readonly longMs: readonly number[];
  readonly tasks: number;
  /** Frames that took so long by the clock on the wall, which on a busy machine says more about the machine. */
  readonly lateFrames: number;
}

/** Runs it, and tells what the page's main thread had to do meanwhile: a frame cannot be shorter than its longest task. */
async function workOf(page: Page, run: () => Promise<void>): Promise<Work> {
  const browser = page.context().browser();
  if (browser === null) throw new Error("no browser");
  await page.evaluate(() => {
    const frames: number[] = [];
    Object.assign(globalThis, { frames });
    new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) frames.push(duration);
    }).observe({ type: "long-animation-frame" });
  });
  const categories = ["toplevel", "__metadata", "disabled-by-default-devtools.timeline"];
  await browser.startTracing(page, { categories });
  let text = "";
  try {
    await run();
  } finally {
    text = (await browser.stopTracing()).toString("utf8");
  }
  const trace = tasksOf(text);
  const lateFrames = await page.evaluate(() => {
    const frames: unknown = Reflect.get(globalThis, "frames");
    return Array.isArray(frames) ? frames.length : 0;
  });
  return {
    tasks: trace.length,
    longMs: trace.filter((ms) => ms > frameMsMax).map(Math.round),
    lateFrames,
  };
}

interface TraceEvent {
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  /** Microseconds of the thread's own time. */
  readonly tdur?: number;
  readonly args?: { readonly name?: string };
}

/** The work of all tasks of the renderers' main threads, in milliseconds. */
function tasksOf(text: string): number[] {
  const { traceEvents } = JSON.parse(text) as { traceEvents: TraceEvent[] };
  const main = new Set(
    traceEvents
      .filter(({ name, args }) => name === "thread_name" && args?.name === "CrRendererMain")
      .map(({ pid, tid }) => `${pid}/${tid}`),
  );
  return traceEvents
    .filter(({ name, pid, tid }) => name.endsWith("RunTask") && main.has(`${pid}/${tid}`))
    .map(({ tdur = 0 }) => tdur / 1_000);
}

const told = ({ longMs, tasks, lateFrames }: Work): string =>
  `tasks over 50 ms: ${longMs.join(", ") || "none"} of ${tasks}; frames over 50 ms on the wall: ${lateFrames}`;

describe("the page's weight", () => {
  // A conversation of that length is written faster than a device usually may.
  const ground = openGround("page", {
    PARLEY_RATE_PER_SECOND: "20000",
    PARLEY_BYTES_PER_SECOND: "20971520",
  });

  it("is under 120 KiB of packed scripts, and it can be used within a second", async () => {
    const page = await (await ground.context()).newPage();
    await page.addInitScript(() => {
      const look = (): void => {
        const field = document.querySelector("input");
        if (field === null) requestAnimationFrame(look);
        else Object.assign(globalThis, { usableMs: performance.now() });
      };
      requestAnimationFrame(look);
    });
    await page.goto(ground.url);
    await page.getByRole("textbox").first().waitFor();
    await page.waitForFunction(() => Reflect.has(globalThis, "usableMs"));
    const { bytes, usableMs } = await page.evaluate(() => ({
      usableMs: Number(Reflect.get(globalThis, "usableMs")),
      bytes: performance
        .getEntriesByType("resource")
        .filter((entry) => entry instanceof PerformanceResourceTiming)
        .filter(({ name }) => name.endsWith(".js"))
        .reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0),
    }));
    console.log(
      `      scripts ${(bytes / 1024).toFixed(1)} KiB, usable after ${usableMs.toFixed(0)} ms`,
    );
    assert.ok(bytes > 0 && bytes < scriptBytesMax, `${bytes} bytes of scripts`);
    assert.ok(usableMs < interactiveMsMax, `usable after ${usableMs} ms`);
  });

  it("is measured by what sees a task that is too long", async () => {
    const page = await (await ground.context()).newPage();
    await page.goto(ground.url);
    const work = await workOf(page, () =>
      page.evaluate(() => {
        const begun = performance.now();
        let sum = 0;
        while (performance.now() - begun < 800) sum += Math.sqrt(sum + 1);
      }),
    );
    assert.ok(work.longMs.length > 0);
  });

  it("lets people read and write while 50 messages a second arrive", async function () {
    this.timeout(120_000);
    const writer = await ground.client("writer");
    await writer.send({ user: "reader" }, "first").sent;
    const { page } = await ground.person("reader");
    await page.goto(`${ground.url}/#/d:reader:writer`);
    const log = page.getByRole("log");
    await log.getByText("first", { exact: true }).waitFor();
    let sent = 0;
    const all = floodPerSecond * floodSeconds;
    const took: number[] = [];
    const work = await workOf(page, async () => {
      const flood = new Promise<void>((resolve) => {
        const timer = setInterval(() => {
          sent += 1;
          writer.send({ user: "reader" }, `flood ${sent}`);
          if (sent < all) return;
          clearInterval(timer);
          resolve();
        }, 1_000 / floodPerSecond);
      });
      const composer = page.getByRole("textbox", { name: "Message" });
      for (let at = 0; at < 5; at += 1) {
        const begun = performance.now();
        await composer.fill(`between ${at}`);
        await composer.press("Enter");
        await log.getByText(`between ${at}`, { exact: true }).waitFor({ state: "attached" });
        took.push(Math.round(performance.now() - begun));
      }
      await flood;
      await log.getByText(`flood ${all}`, { exact: true }).waitFor();
    });
    console.log(`      own messages shown after ${took.join(", ")} ms; ${told(work)}`);
    assert.ok(work.tasks > 0);
    assert.ok(Math.max(...took) < 2_000, `a message was shown after ${Math.max(...took)} ms`);
    assert.ok(
      Math.max(0, ...work.longMs) < 200,
      `the page did nothing else for ${work.longMs.join()} ms`,
    );
  });

  it(`scrolls through a conversation of ${longLog} messages without a frame over 50 ms`, async function () {
    this.timeout(900_000);
    const writer = await ground.client("author");
    const begun = performance.now();
    const ends: number[] = [];
    writer.on("connection", (now) => {
      if (now.t === "waiting") ends.push(now.why.code);
    });
    for (let at = 0; at < longLog; at += 500) {
      const batch = Array.from({ length: Math.min(500, longLog - at) }, (_, more) =>
        writer.send({ user: "scroller" }, `message ${at + more + 1}, as long as people write`),
      );
      await Promise.all(batch.map(({ sent }) => sent));
    }
    assert.deepEqual(ends, [], "the SDK sends no faster than the server takes");
    const wroteSeconds = (performance.now() - begun) / 1_000;
    const { page } = await ground.person("scroller");
    await page.goto(`${ground.url}/#/d:author:scroller`);
    const log = page.getByRole("log");
    await log.getByRole("article").first().waitFor();
    await page
      .getByText("Jump to the newest")
      .click({ timeout: 5_000 })
      .catch(() => undefined);
    await log.getByText(`message ${longLog},`).first().waitFor();
    await log.hover();
    const work = await workOf(page, async () => {
      for (const [turns, pixels] of [
        [150, -800],
        [50, 800],
      ] as const)
        for (let turn = 0; turn < turns; turn += 1) {
          await page.mouse.wheel(0, pixels);
          await page.evaluate(() => new Promise((next) => requestAnimationFrame(next)));
        }
    });
    const shown = await log.getByRole("article").count();
    console.log(
      `      written in ${wroteSeconds.toFixed(0)} s; ${shown} messages in the page; ${told(work)}`,
    );
    assert.ok(shown < 200, `${shown} messages are in the page at once`);
    assert.ok(work.tasks > 0);
    assert.deepEqual(work.longMs, []);
  });
});
