/** A web proxy as they stand in offices: refuses WebSockets, or holds streams back until they end, as a test wants. */
import { once } from "node:events";
import { createServer, request as ask, type IncomingMessage, type ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";

export type Blocked = "websocket" | "stream";

export interface BlockingProxy {
  readonly url: string;
  readonly blocked: Set<Blocked>;
  close(): Promise<void>;
}

const streams = /\/Subscribe$/;

export async function openBlockingProxy(
  target: string,
  blocked: Set<Blocked>,
): Promise<BlockingProxy> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  const server = createServer((request, response) => forward(request, response));
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("upgrade", (request, socket, head) => {
    socket.on("error", () => undefined);
    if (blocked.has("websocket")) {
      socket.end("HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n");
      return;
    }
    const through = connect(Number(port), hostname);
    sockets.add(through);
    through.on("error", () => socket.destroy());
    through.once("close", () => socket.destroy());
    socket.once("close", () => through.destroy());
    const { rawHeaders } = request;
    const lines = rawHeaders.flatMap((name, at) =>
      at % 2 === 0 ? [`${name}: ${rawHeaders[at + 1] ?? ""}`] : [],
    );
    through.write([`GET ${request.url ?? "/"} HTTP/1.1`, ...lines, "", ""].join("\r\n"));
    through.write(head);
    through.pipe(socket).pipe(through);
  });

  function forward(request: IncomingMessage, response: ServerResponse): void {
    const { url: path = "/", method = "GET", headers } = request;
    const onward = ask({ hostname, port, path, method, headers }, (answer) => {
      const held = blocked.has("stream") && streams.test(path);
      if (!held) {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
        return;
      }
      const pieces: Buffer[] = [];
      answer.on("data", (piece: Buffer) => pieces.push(piece));
      answer.on("end", () => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        response.end(Buffer.concat(pieces));
      });
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  }

  server.listen(0, hostname);
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no address");
  return {
    url: `http://${hostname}:${address.port}`,
    blocked,
    async close() {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
