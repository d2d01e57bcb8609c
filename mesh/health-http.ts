/** Health over HTTP, for orchestrators and people: what is asked here is only whether the process lives and whether it can serve. */
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import { listen } from "./grpc/door.ts";

export interface HealthServer {
  readonly port: number;
  /** Cuts what is under way. */
  close(): Promise<void>;
}

export interface HealthOptions {
  readonly host: string;
  /** 0: one that is free. */
  readonly port: number;
  /** Why the process cannot serve now, a sentence each; empty: ready. */
  readonly problems: () => readonly string[];
  /** What will keep it from serving unless somebody does something, a sentence each. */
  readonly warnings: () => readonly string[];
}

/** The answer of /readyz. What is only a warning changes no status. */
export function readiness(
  reasons: readonly string[],
  warnings: readonly string[],
): { status: number; type: string; text: string } {
  if (reasons.length > 0) {
    const more = warnings.length > 0 ? { warnings } : {};
    const text = JSON.stringify({ ready: false, reasons, ...more }) + "\n";
    return { status: 503, type: "application/json", text };
  }
  const text = ["ready", ...warnings.map((one) => `warning: ${one}`), ""].join("\n");
  return { status: 200, type: "text/plain; charset=utf-8", text };
}

const requestMs = 5_000;
const socketsMax = 1_000;

export async function serveHealth(options: HealthOptions): Promise<HealthServer> {
  const { host, port } = options;
  const server = createServer(
    { headersTimeout: requestMs, requestTimeout: requestMs, keepAliveTimeout: requestMs },
    (request, response) => answer(request, response, options),
  );
  server.maxConnections = socketsMax;
  const bound = await listen(server, host, port);
  return {
    port: bound,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function answer(
  { url = "" }: IncomingMessage,
  response: ServerResponse,
  { problems, warnings }: HealthOptions,
): void {
  const [path] = url.split("?", 1);
  if (path === "/healthz") return send(response, 200, "text/plain; charset=utf-8", "ok\n");
  const reasons = problems();
  if (path === "/readyz") {
    const { status, type, text } = readiness(reasons, warnings());
    return send(response, status, type, text);
  }
  if (reasons.length > 0) {
    const error = { code: "unavailable", message: reasons.join("; ") };
    return send(response, 503, "application/json", JSON.stringify(error) + "\n");
  }
  send(
    response,
    404,
    "text/plain; charset=utf-8",
    "there is nothing here but /healthz and /readyz\n",
  );
}

function send(response: ServerResponse, status: number, type: string, text: string): void {
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(text) });
  response.end(text);
}
