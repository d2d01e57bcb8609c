/** Traces by OpenTelemetry, sent in batches by OTLP over HTTP. Loaded only where they are wanted. */
import {
  type HrTime,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
} from "@opentelemetry/api";
import { type Span as SdkSpan, type Tracer as SdkTracer, trace } from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { detectResources, envDetector, resourceFromAttributes } from "@opentelemetry/resources";
import {
  AlwaysOnSampler,
  BatchSpanProcessor,
  type SpanExporter,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import type { Clock } from "./clock.ts";
import type { Surroundings } from "./lifecycle.ts";
import type { Count } from "./metrics.ts";
import type { TraceConfig, Tracing } from "./trace-config.ts";
import type { Attributes, Span, Tracer } from "./trace.ts";

/** Messages that are followed in a second at most, so that the cost is bounded whatever the ratio. */
export const perSecondMax = 100;
/** Spans that wait; beyond, they are lost. */
export const queueMax = 4_096;
/** How long a batch gathers, and how long it may take. */
const gatherMs = 2_000;
const exportMs = 2_000;
/** Lines of the log about one trouble are that far apart. */
const logMs = 60_000;
/** A clock was set: then times go by the calendar again. */
const driftMs = 50;

type Outside = Pick<Surroundings, "clock" | "random" | "log" | "metrics" | "identity">;

/** `service` names the process to whoever looks at the traces. */
export function openOtlp(
  { url, ratio }: TraceConfig,
  service: string,
  outside: Outside,
): Tracing & { readonly tracer: Tracer } {
  const { clock, random, identity } = outside;
  const idOf = (bytes: number): string => Buffer.from(random.bytes(bytes)).toString("hex");
  const own = { "service.name": service, "service.instance.id": identity.id };
  const exporter = new OTLPTraceExporter({ url, timeoutMillis: exportMs });
  const provider = new TracerProvider({
    // What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes first.
    resource: resourceFromAttributes(own).merge(detectResources({ detectors: [envDetector] })),
    sampler: new AlwaysOnSampler(),
    idGenerator: { generateTraceId: () => idOf(16), generateSpanId: () => idOf(8) },
    spanProcessors: [new Batches(exporter, new Losses(outside), outside)],
  });
  const times = new Times(clock);
  const tracer = new OtlpTracer(provider.getTracer("parley"), times, chance(ratio, outside));
  /** Sends what waits, or gives it up. */
  const close = (): Promise<void> => provider.shutdown().catch(() => undefined);
  return { tracer, close };
}

function chance(ratio: number, { clock, random }: Outside): () => boolean {
  let second = 0;
  let left = 0;
  return () => {
    if (random.unit() >= ratio) return false;
    const now = Math.floor(clock.monotonic() / 1_000);
    if (now !== second) {
      second = now;
      left = perSecondMax;
    }
    if (left === 0) return false;
    left -= 1;
    return true;
  };
}

/** Spans that nobody will see are counted, and logged now and then: the library is silent about them. */
class Losses {
  readonly #lost: Count;
  readonly #clock: Clock;
  readonly #log: Outside["log"];
  #saidMs = -Infinity;

  constructor({ clock, log, metrics }: Outside) {
    this.#clock = clock;
    this.#log = log;
    this.#lost = metrics.count(
      "parley_spans_lost_total",
      "Spans of traces that could not be sent, or found too many waiting.",
    );
  }

  add(spans: number, reason: string | undefined): void {
    this.#lost.add(spans);
    if (this.#clock.monotonic() - this.#saidMs < logMs) return;
    this.#saidMs = this.#clock.monotonic();
    this.#log.warn({ reason, spans }, "traces are lost");
  }
}

/** The exporter, whose results are told. `taken`: so many wait no more. */
function watched(
  exporter: SpanExporter,
  losses: Losses,
  { metrics }: Outside,
  taken: (spans: number) => void,
): SpanExporter {
  const sent: Count = metrics.count("parley_spans_sent_total", "Spans of traces that were sent.");
  return {
    export(spans, done) {
      taken(spans.length);
      exporter.export(spans, (result) => {
        // 0: it went well.
        if (result.code === 0) sent.add(spans.length);
        else losses.add(spans.length, result.error?.message);
        done(result);
      });
    },
    shutdown: () => exporter.shutdown(),
  };
}

/** The library's batches, with what waits counted here: it drops what is too much without a word. */
class Batches extends BatchSpanProcessor {
  readonly #losses: Losses;
  readonly #waiting: { spans: number };

  constructor(exporter: SpanExporter, losses: Losses, outside: Outside) {
    const waiting = { spans: 0 };
    super({
      exporter: watched(exporter, losses, outside, (spans) => {
        waiting.spans -= spans;
      }),
      maxQueueSize: queueMax,
      scheduledDelayMillis: gatherMs,
      exportTimeoutMillis: exportMs,
    });
    this.#losses = losses;
    this.#waiting = waiting;
  }

  override onEnd(span: Parameters<BatchSpanProcessor["onEnd"]>[0]): void {
    if (this.#waiting.spans >= queueMax) {
      this.#losses.add(1, `${queueMax} spans wait already`);
      return;
    }
    this.#waiting.spans += 1;
    super.onEnd(span);
  }
}

/** The calendar's time as finely as the monotonic clock has it. */
class Times {
  readonly #clock: Clock;
  #aheadMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#aheadMs = clock.now() - clock.monotonic();
  }

  now(): HrTime {
    const nowMs = this.#clock.now();
    let ms = this.#clock.monotonic() + this.#aheadMs;
    if (Math.abs(ms - nowMs) > driftMs) {
      this.#aheadMs += nowMs - ms;
      ms = nowMs;
    }
    const seconds = Math.floor(ms / 1_000);
    return [seconds, Math.floor((ms - seconds * 1_000) * 1e6)];
  }
}

class OtlpTracer implements Tracer {
  readonly chosen: () => boolean;
  readonly #tracer: SdkTracer;
  readonly #times: Times;

  constructor(tracer: SdkTracer, times: Times, chosen: () => boolean) {
    this.#tracer = tracer;
    this.#times = times;
    this.chosen = chosen;
  }

  begin(name: string, attributes: Attributes): Span {
    return this.#start(ROOT_CONTEXT, SpanKind.SERVER, name, attributes);
  }

  step(context: Uint8Array, name: string, attributes: Attributes): Span {
    const hex = Buffer.from(context).toString("hex");
    const parent = trace.setSpanContext(ROOT_CONTEXT, {
      traceId: hex.slice(0, 32),
      spanId: hex.slice(32),
      traceFlags: TraceFlags.SAMPLED,
      isRemote: true,
    });
    return this.#start(parent, SpanKind.CONSUMER, name, attributes);
  }

  #start(parent: typeof ROOT_CONTEXT, kind: SpanKind, name: string, attributes: Attributes): Span {
    const startTime = this.#times.now();
    const span = this.#tracer.startSpan(name, { kind, attributes, startTime }, parent);
    return new OtlpSpan(span, this.#times);
  }
}

class OtlpSpan implements Span {
  readonly context: Uint8Array;
  readonly #span: SdkSpan;
  readonly #times: Times;

  constructor(span: SdkSpan, times: Times) {
    this.#span = span;
    this.#times = times;
    const { traceId, spanId } = span.spanContext();
    this.context = Buffer.from(traceId + spanId, "hex");
  }

  set(attributes: Attributes): void {
    this.#span.setAttributes(attributes);
  }

  note(what: string): void {
    this.#span.addEvent(what, this.#times.now());
  }

  end(fault?: string): void {
    if (fault !== undefined) this.#span.setStatus({ code: SpanStatusCode.ERROR, message: fault });
    this.#span.end(this.#times.now());
  }
}
