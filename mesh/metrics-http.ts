/** Metrics in Prometheus' format at /metrics, on a port of their own: clients' port is public, and these are not. */
import { createServer } from "node:http";
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";
import type { EnvReader } from "./env.ts";
import { listen } from "./grpc/door.ts";
import type { Count, Metrics, Spread } from "./metrics.ts";

export interface MetricsPlace {
  readonly host: string;
  readonly port: number;
}

export interface MetricsServer {
  readonly metrics: Metrics;
  readonly port: number;
  /** Cuts what is under way. */
  close(): Promise<void>;
}

const requestMs = 5_000;
const socketsMax = 100;

/** Undefined: nobody is to see them. */
export function metricsPlace(read: EnvReader): MetricsPlace | undefined {
  const host = read.string("METRICS_HOST", "127.0.0.1", "where /metrics listens, for Prometheus");
  const port = read.int("METRICS_PORT", 0, [0, 65_535], "its port; 0: there is no /metrics");
  return port === 0 ? undefined : { host, port };
}

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

/** A count in plain memory: the library is told when somebody looks. */
class PlainCount implements Count {
  value = 0;

  add(more = 1): void {
    this.value += more;
  }
}

/** Those of one name. */
interface Counts {
  readonly all: { readonly labels: Readonly<Record<string, string>>; readonly one: PlainCount }[];
}

class Prometheus implements Metrics {
  readonly #registry: Registry;
  readonly #counts = new Map<string, Counts>();
  readonly #levels = new Map<string, (() => number)[]>();
  readonly #spreads = new Map<string, Spread>();

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  count(name: string, what: string, labels: Readonly<Record<string, string>> = {}): Count {
    const one = new PlainCount();
    const known = this.#counts.get(name);
    if (known !== undefined) {
      known.all.push({ labels, one });
      return one;
    }
    const counts: Counts = { all: [{ labels, one }] };
    this.#counts.set(name, counts);
    const { all } = counts;
    new Counter({
      name,
      help: what,
      labelNames: Object.keys(labels),
      registers: [this.#registry],
      collect() {
        this.reset();
        for (const each of all) this.inc(each.labels, each.one.value);
      },
    });
    return one;
  }

  level(name: string, what: string, read: () => number): void {
    const known = this.#levels.get(name);
    if (known !== undefined) return void known.push(read);
    const reads = [read];
    this.#levels.set(name, reads);
    new Gauge({
      name,
      help: what,
      registers: [this.#registry],
      collect() {
        this.set(reads.reduce((sum, each) => sum + each(), 0));
      },
    });
  }

  spread(name: string, what: string, bounds: readonly number[]): Spread {
    const known = this.#spreads.get(name);
    if (known !== undefined) return known;
    const spread = new Histogram({
      name,
      help: what,
      buckets: [...bounds],
      registers: [this.#registry],
    });
    this.#spreads.set(name, spread);
    return spread;
  }
}
