/** Where a process shows its metrics, if it does. */
import type { EnvReader } from "./env.ts";

export interface MetricsPlace {
  readonly host: string;
  readonly port: number;
}

/** Undefined: nobody is to see them. */
export function metricsPlace(read: EnvReader): MetricsPlace | undefined {
  const host = read.string("METRICS_HOST", "127.0.0.1", "where /metrics listens, for Prometheus");
  const port = read.int("METRICS_PORT", 0, [0, 65_535], "its port; 0: there is no /metrics");
  return port === 0 ? undefined : { host, port };
}
