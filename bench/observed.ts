/**
 * Parley in one process, in which being looked at goes on and off while it runs: two processes differ by more than that costs. It
 * counts messages and its own CPU in slices. Started by processes.ts.
 */
import { pino } from "pino";
import { parleyConfig, startParley } from "../embedded/index.ts";
import { serveMetrics } from "../mesh/metrics-http.ts";
import type { Metrics } from "../mesh/metrics.ts";
import { systemRandom } from "../mesh/random.ts";
import {
  countedTimes,
  isSlicing,
  type ObservedMessage,
  type Slice,
  type Slicing,
} from "./slices.ts";

/** What counts as a message. */
const messagesName = "parley_gateway_sends_total";

const on = { metrics: true, traces: true };
let messages = 0;

const places = Array.from({ length: countedTimes - 1 }, (_, at) => `_${at}`);

/**
 * Counts and spreads take nothing while it is off. While it is on they take everything `countedTimes`, each time in a place of its own, as the memory that is touched
 * is part of the cost: so it stands out. `spare`: where the other places are, which nobody asks for. Messages are known all the time.
 */
function patch(spare: Metrics): void {
  const all: Metrics = Object.getPrototypeOf(spare);
  const { count, tally, spread } = all;
  const made = (make: Metrics["count"]): Metrics["count"] =>
    function (this: Metrics, name, help, labels) {
      const counts = [
        make.call(this, name, help, labels),
        ...places.map((place) => make.call(spare, name + place, help, labels)),
      ];
      const add = (more = 1): void => {
        if (on.metrics) for (const one of counts) one.add(more);
      };
      if (name !== messagesName) return { add };
      return {
        add(more = 1) {
          messages += more;
          add(more);
        },
      };
    };
  all.count = made(count);
  all.tally = made(tally);
  all.spread = function (name, help, bounds, labels) {
    const spreads = [
      spread.call(this, name, help, bounds, labels),
      ...places.map((place) => spread.call(spare, name + place, help, bounds, labels)),
    ];
    return {
      observe(value) {
        if (on.metrics) for (const one of spreads) one.observe(value);
      },
    };
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
