/** Where a gRPC server's connections come in: who may, is the door's affair; what they call is the server's. */
import { createServer } from "node:net";
import type { Server as Listener } from "node:net";
import type { Duplex } from "node:stream";
import type { Logger } from "pino";

export interface Door {
  /** A server that does not listen yet, and hands over each connection that may come in. */
  open(taken: (connection: Duplex) => void, log: Logger): Listener;
}

/** Lets everybody in, unencrypted. */
export const openDoor: Door = { open: (taken) => createServer(taken) };

/** Answers the port. */
export function listen(listener: Listener, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    listener.once("error", reject);
    listener.listen({ host, port }, () => {
      listener.off("error", reject);
      const bound = listener.address();
      resolve(typeof bound === "object" && bound !== null ? bound.port : port);
    });
  });
}
