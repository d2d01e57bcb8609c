/** Takes traces as a collector does, by OTLP over HTTP, and keeps their spans. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";

export interface ReceivedSpan {
  /** The process that made it: "parley-delivery". */
  readonly service: string;
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  /** "": it is the first. */
  readonly parentSpanId: string;
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly attributes: Readonly<Record<string, string>>;
  readonly events: readonly string[];
  /** Why it failed; "": it did not. */
  readonly fault: string;
}

interface Pair {
  readonly key: string;
  readonly value: { readonly stringValue?: string; readonly intValue?: number };
}

/** What is looked at of an ExportTraceServiceRequest. */
interface Exported {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Pair[] };
    readonly scopeSpans: readonly {
      readonly spans: readonly {
        readonly name: string;
        readonly traceId: string;
        readonly spanId: string;
        readonly parentSpanId?: string;
        readonly startTimeUnixNano: string;
        readonly endTimeUnixNano: string;
        readonly attributes: readonly Pair[];
        readonly events: readonly { readonly name: string }[];
        readonly status: { readonly code: number; readonly message?: string };
      }[];
    }[];
  }[];
}

export class TraceReceiver {
  readonly spans: ReceivedSpan[] = [];
  /** All that came, as it came. */
  text = "";
  /** What is answered. */
  status = 200;
  readonly #server = createServer((request, response) => {
    void json(request).then((exported) => {
      if (this.status === 200) this.#take(exported as Exported);
      response.writeHead(this.status, { "content-type": "application/json" }).end("{}");
    });
  });

  static async open(): Promise<TraceReceiver> {
    const receiver = new TraceReceiver();
    receiver.#server.listen(0, "127.0.0.1");
    await once(receiver.#server, "listening");
    return receiver;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  /** The only one of the name. */
  one(name: string): ReceivedSpan {
    const [span, ...more] = this.spans.filter((each) => each.name === name);
    if (span === undefined || more.length > 0)
      throw new Error(`${more.length + (span === undefined ? 0 : 1)} spans of the name ${name}`);
    return span;
  }

  #take(exported: Exported): void {
    this.text += JSON.stringify(exported);
    for (const { resource, scopeSpans } of exported.resourceSpans) {
      const service = attributesOf(resource.attributes)["service.name"] ?? "";
      for (const span of scopeSpans.flatMap(({ spans }) => spans))
        this.spans.push({
          service,
          name: span.name,
          traceId: span.traceId,
          spanId: span.spanId,
          parentSpanId: span.parentSpanId ?? "",
          startNs: BigInt(span.startTimeUnixNano),
          endNs: BigInt(span.endTimeUnixNano),
          attributes: attributesOf(span.attributes),
          events: span.events.map(({ name }) => name),
          fault: span.status.message ?? "",
        });
    }
  }
}

function attributesOf(pairs: readonly Pair[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map(({ key, value }) => [key, value.stringValue ?? String(value.intValue)]),
  );
}
