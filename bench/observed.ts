/**
 * Parley in one process, in which being looked at goes on and off while it runs: two processes differ by more than that costs. It
 * counts messages and its own CPU in slices. Started by processes.ts.
 */
import { pino } from "pino";
import { parleyConfig, startParley } from "../embedded/index.ts";
import { serveMetrics } from "../mesh/metrics-http.ts";
import type { Count, Metrics, Spread } from "../mesh/metrics.ts";
import { systemRandom } from "../mesh/random.ts";
import { isSlicing, type ObservedMessage, type Slice, type Slicing } from "./slices.ts";

/** What counts as a message. */
const messagesName = "parley_gateway_sends_total";

const on = { metrics: true, traces: true };
let messages = 0;

/** Counts and spreads take nothing while it is off; messages are known all the time. */
function patch(metrics: Metrics): void {
  const count: Count & { value?: number } = metrics.count("parley_bench_count", "One of them.");
  const counts: Count & { value: number } = Object.getPrototypeOf(count);
  counts.add = function (more = 1) {
    if (on.metrics) this.value += more;
  };
  const spreads: Spread = Object.getPrototypeOf(metrics.spread("parley_bench_spread", "One.", [1]));
  const { observe } = spreads;
  spreads.observe = function (value) {
    if (on.metrics) observe.call(this, value);
  };
  const all: Metrics = Object.getPrototypeOf(metrics);
  const make = all.count;
  all.count = function (name, help, labels) {
    const made: Count & { value?: number } = make.call(this, name, help, labels);
    if (name === messagesName)
      made.add = (more = 1) => {
        messages += more;
        if (on.metrics) made.value = (made.value ?? 0) + more;
      };
    return made;
  };
}

/** While it is off, chance follows no message. */
const random = { ...systemRandom, unit: () => (on.traces ? systemRandom.unit() : 1 - 2 ** -53) };

const cpuSeconds = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/** On, off, off, on, and the other way round, until it is told to end. What is put off until the slice has settled is not counted. */
function slice({ what, sliceMs, settleMs }: Slicing): () => Slice[] {
  const slices: Slice[] = [];
  let begin = { atMs: 0, messages: 0, cpu: 0 };
  let timer: NodeJS.Timeout;
  const settled = (): void => {
    begin = { atMs: performance.now(), messages, cpu: cpuSeconds() };
    timer = setTimeout(next, sliceMs);
  };
  const next = (): void => {
    slices.push({
      on: on[what],
      seconds: (performance.now() - begin.atMs) / 1000,
      count: messages - begin.messages,
      cpuSeconds: cpuSeconds() - begin.cpu,
    });
    enter();
  };
  const enter = (): void => {
    on[what] = [true, false, false, true, false, true, true, false][slices.length % 8] ?? true;
    if (settleMs === 0) settled();
    else timer = setTimeout(settled, settleMs);
  };
  enter();
  return () => {
    clearTimeout(timer);
    on[what] = true;
    return slices;
  };
}

const say = (message: ObservedMessage): void => void process.send?.(message);

const shown = await serveMetrics({ host: "127.0.0.1", port: 0 });
patch(shown.metrics);
await shown.close();
const parley = await startParley(parleyConfig(process.env), {
  log: pino({ level: "error" }),
  random,
});
let end: (() => Slice[]) | undefined;
process.on("message", (message: unknown) => {
  if (isSlicing(message)) end = slice(message);
  else {
    say({ kind: "slices", slices: end?.() ?? [], cpuSeconds: cpuSeconds() });
    end = undefined;
  }
});
process.on("disconnect", () => process.exit(1));
process.once("SIGTERM", () => void parley.close().then(() => process.exit(0)));
say({ kind: "listening", port: parley.port });
