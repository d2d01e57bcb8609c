/** Where traces go, and how many messages are followed. */
import type { EnvReader } from "./env.ts";
import type { Surroundings } from "./lifecycle.ts";
import type { Tracer } from "./trace.ts";

export interface TraceConfig {
  readonly url: string;
  /** Of all messages, from 0 to 1. */
  readonly ratio: number;
}

/** What follows messages, until it is closed. */
export interface Tracing {
  readonly tracer: Tracer | undefined;
  close(): Promise<void>;
}

const standardPath = "/v1/traces";

/** Undefined: nothing is followed. */
export function traceConfig(read: EnvReader): TraceConfig | undefined {
  const url = read.optional(
    "OTLP_URL",
    "where traces go by OTLP over HTTP (http://collector:4318); empty: no message is followed",
  );
  const ratio = read.number(
    "TRACE_RATIO",
    0.001,
    [0, 1],
    "how many of the messages are followed; the gateway that takes one decides",
  );
  if (url === undefined) return undefined;
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || !/^https?:$/.test(parsed.protocol)) {
    read.wrong(`PARLEY_OTLP_URL must be like http://collector:4318, not "${url}"`);
    return undefined;
  }
  if (parsed.pathname === "/") parsed.pathname = standardPath;
  return { url: parsed.href, ratio };
}

/** The library is loaded only where something is followed. */
export async function openTracing(
  config: TraceConfig | undefined,
  service: string,
  outside: Pick<Surroundings, "clock" | "random" | "log" | "metrics" | "identity">,
): Promise<Tracing> {
  if (config === undefined) return { tracer: undefined, close: () => Promise.resolve() };
  const { openOtlp } = await import("./trace-otlp.ts");
  return openOtlp(config, service, outside);
}
