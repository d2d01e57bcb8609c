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
}

const requestMs = 5_000;
const socketsMax = 1_000;

export async function serveHealth({ host, port, problems }: HealthOptions): Promise<HealthServer> {
  const server = createServer(
    { headersTimeout: requestMs, requestTimeout: requestMs, keepAliveTimeout: requestMs },
    (request, response) => answer(request, response, problems),
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
  problems: () => readonly string[],
): void {
  const [path] = url.split("?", 1);
  if (path === "/healthz") return send(response, 200, "text/plain; charset=utf-8", "ok\n");
  const reasons = problems();
  if (path === "/readyz" && reasons.length === 0)
    return send(response, 200, "text/plain; charset=utf-8", "ready\n");
  if (path === "/readyz") return sendReasons(response, { ready: false, reasons });
  if (reasons.length > 0)
    return sendReasons(response, { code: "unavailable", message: reasons.join("; ") });
  send(
    response,
    404,
    "text/plain; charset=utf-8",
    "there is nothing here but /healthz and /readyz\n",
  );
}

const sendReasons = (response: ServerResponse, body: object): void =>
  send(response, 503, "application/json", JSON.stringify(body) + "\n");

function send(response: ServerResponse, status: number, type: string, text: string): void {
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(text) });
  response.end(text);
}
