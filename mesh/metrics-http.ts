/** Metrics in Prometheus' format at /metrics, on a port of their own: clients' port is public, and these are not. */
import { createServer } from "node:http";
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";
import { listen } from "./grpc/door.ts";
import type { MetricsPlace } from "./metrics-config.ts";
import type { Count, Labels, Metrics, Spread } from "./metrics.ts";

export interface MetricsServer {
  readonly metrics: Metrics;
  readonly port: number;
  /** Cuts what is under way. */
  close(): Promise<void>;
}

const requestMs = 5_000;
const socketsMax = 100;

/** Listens when it resolves. Port 0: one that is free. */
export async function serveMetrics({ host, port }: MetricsPlace): Promise<MetricsServer> {
  const registry = new Registry();
  // The process's own: processor, memory, how late the event loop is.
  collectDefaultMetrics({ register: registry });
  const server = createServer(
    { headersTimeout: requestMs, requestTimeout: requestMs, keepAliveTimeout: requestMs },
    ({ url = "" }, response) => {
      if (url.split("?", 1)[0] !== "/metrics")
        return void response.writeHead(404).end("there is nothing here but /metrics\n");
      registry.metrics().then(
        (text) => response.writeHead(200, { "content-type": registry.contentType }).end(text),
        () => response.writeHead(500).end(),
      );
    },
  );
  server.maxConnections = socketsMax;
  const bound = await listen(server, host, port);
  return {
    metrics: new Prometheus(registry),
    port: bound,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
        registry.clear();
      }),
  };
}

/** Counts in plain memory, as does the next one: the library is told when somebody looks. */
class PlainCount implements Count {
  value = 0;

  add(more = 1): void {
    this.value += more;
  }
}

class PlainSpread implements Spread {
  /** How many values fell into each bucket, those above all bounds last. */
  readonly counts: number[];
  sum = 0;
  readonly #bounds: readonly number[];

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.counts = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  observe(value: number): void {
    const bounds = this.#bounds;
    let at = 0;
    while (at < bounds.length && value > (bounds[at] ?? 0)) at += 1;
    this.counts[at] = (this.counts[at] ?? 0) + 1;
    this.sum += value;
  }
}

/** Those of one name, each with its labels. */
class Family<T> {
  readonly #all = new Map<string, { readonly labels: Labels; readonly one: T }>();
  readonly #make: () => T;

  constructor(make: () => T) {
    this.#make = make;
  }

  of(labels: Labels): T {
    const key = JSON.stringify(labels);
    const known = this.#all.get(key) ?? { labels, one: this.#make() };
    this.#all.set(key, known);
    return known.one;
  }

  all(): Iterable<{ readonly labels: Labels; readonly one: T }> {
    return this.#all.values();
  }
}

interface ShownLine {
  readonly metricName: string;
  readonly sharedLabels: Labels;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

/** As the library shows a spread. Its own would look for the bucket by its labels for each value. */
class ShownSpread extends Histogram {
  readonly #what: { readonly name: string; readonly help: string };
  readonly #bounds: readonly number[];
  readonly #family: Family<PlainSpread>;

  constructor(
    registers: Registry[],
    what: { readonly name: string; readonly help: string },
    bounds: readonly number[],
    family: Family<PlainSpread>,
  ) {
    super({ ...what, registers, buckets: [...bounds] });
    this.#what = what;
    this.#bounds = bounds;
    this.#family = family;
  }

  /** What the registry asks. */
  getForPromString(): Promise<object> {
    const values: ShownLine[] = [];
    for (const { labels, one } of this.#family.all()) values.push(...this.#lines(labels, one));
    return Promise.resolve({ ...this.#what, type: "histogram", aggregator: "sum", values });
  }

  #lines(sharedLabels: Labels, { counts, sum }: PlainSpread): ShownLine[] {
    const { name } = this.#what;
    let count = 0;
    const buckets = counts.map((more, at) => {
      count += more;
      const labels = { le: this.#bounds[at] ?? "+Inf" };
      return { metricName: `${name}_bucket`, sharedLabels, labels, value: count };
    });
    const line = (what: string, value: number): ShownLine => ({
      metricName: `${name}_${what}`,
      sharedLabels,
      labels: {},
      value,
    });
    return [...buckets, line("sum", sum), line("count", count)];
  }
}

class Prometheus implements Metrics {
  readonly #registers: Registry[];
  readonly #counts = new Map<string, Family<PlainCount>>();
  readonly #levels = new Map<string, (() => number)[]>();
  readonly #spreads = new Map<string, Family<PlainSpread>>();

  constructor(registry: Registry) {
    this.#registers = [registry];
  }

  count(name: string, help: string, labels: Labels = {}): Count {
    return this.#counted(Counter, name, help, labels);
  }

  tally(name: string, help: string, labels: Labels = {}): Count {
    return this.#counted(Gauge, name, help, labels);
  }

  level(name: string, help: string, read: () => number): void {
    const known = this.#levels.get(name);
    if (known !== undefined) return void known.push(read);
    const reads = [read];
    this.#levels.set(name, reads);
    new Gauge({
      name,
      help,
      registers: this.#registers,
      collect() {
        this.set(reads.reduce((sum, each) => sum + each(), 0));
      },
    });
  }

  spread(name: string, help: string, bounds: readonly number[], labels: Labels = {}): Spread {
    let family = this.#spreads.get(name);
    if (family === undefined) {
      family = new Family(() => new PlainSpread(bounds));
      this.#spreads.set(name, family);
      new ShownSpread(this.#registers, { name, help }, bounds, family);
    }
    return family.of(labels);
  }

  #counted(kind: typeof Counter | typeof Gauge, name: string, help: string, labels: Labels): Count {
    let family = this.#counts.get(name);
    if (family === undefined) {
      const made = new Family(() => new PlainCount());
      family = made;
      this.#counts.set(name, made);
      const registers = this.#registers;
      const collect = function (this: Counter | Gauge): void {
        this.reset();
        for (const each of made.all()) this.inc(each.labels, each.one.value);
      };
      new kind({ name, help, labelNames: Object.keys(labels), registers, collect });
    }
    return family.of(labels);
  }
}
