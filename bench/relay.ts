/**
 * The yardstick, a process of its own: a bare `ws` server that keeps nothing and sends what one of a pair says to the
 * other. The pair is the path: /1, /2 … Says its port to its parent.
 */
import { type WebSocket, WebSocketServer } from "ws";

const waiting = new Map<string, WebSocket>();
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });

function join(one: WebSocket, other: WebSocket): void {
  one.on("message", (data) => other.send(data));
}

server.on("connection", (socket, request) => {
  const pair = request.url ?? "/";
  const partner = waiting.get(pair);
  socket.on("close", () => {
    if (waiting.get(pair) === socket) waiting.delete(pair);
  });
  socket.on("error", () => socket.terminate());
  if (partner === undefined) {
    waiting.set(pair, socket);
  } else {
    waiting.delete(pair);
    join(socket, partner);
    join(partner, socket);
  }
});

server.on("listening", () => {
  const address = server.address();
  if (typeof address === "object" && address !== null) process.send?.({ port: address.port });
});
process.on("disconnect", () => process.exit(0));
