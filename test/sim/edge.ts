/** A gateway's edge in the simulated world: the product's own HTTP server, over sockets that the world brings. */
import type { Duplex } from "node:stream";
import {
  type Authenticator,
  createEdgeServer,
  createMedia,
  edgeConfig,
  type EdgeConfig,
  type EdgeServer,
  type Gateway,
} from "../../gateway/index.ts";
import { unauthenticated } from "../../mesh/errors.ts";
import type { Surroundings } from "../../mesh/lifecycle.ts";
import { simImages } from "./media.ts";

export type ChatLimits = EdgeConfig["chat"];
/** Low, so that a flood need not be large. */
export const simLimits: ChatLimits = { ...edgeConfig.chat, callsPerSecond: 30, callsBurst: 100 };

const pieces = /^sim\.([A-Za-z0-9_-]+)\.sim$/;

/** Shaped as a JWT, which a client that has no Welcome reads. */
export const tokenOf = (userId: string, region: string): string =>
  `sim.${Buffer.from(JSON.stringify({ sub: userId, region })).toString("base64url")}.sim`;

/** The token says who it is, as does a user's bare id. */
export const simAuth: Authenticator = {
  async verify(token) {
    const [, claims] = pieces.exec(token) ?? [];
    if (claims !== undefined) {
      const said: unknown = JSON.parse(Buffer.from(claims, "base64url").toString());
      if (typeof said === "object" && said !== null && "sub" in said && "region" in said)
        return { userId: String(said.sub), expiresMs: Infinity, region: String(said.region) };
    }
    if (!/^[a-z0-9]+$/.test(token)) throw unauthenticated("the token is wrong");
    return { userId: token, expiresMs: Infinity, region: "" };
  },
};

/** Serves connections until it is closed. */
export class SimEdge {
  readonly #server: EdgeServer;
  readonly #surroundings: Surroundings;
  readonly #open = new Set<Duplex>();
  #wake = (): void => undefined;

  constructor(surroundings: Surroundings, gateway: Gateway, limits: ChatLimits) {
    this.#surroundings = surroundings;
    const { clock, log } = surroundings;
    this.#server = createEdgeServer({
      calls: gateway.calls,
      auth: simAuth,
      upgrade: (request, socket, head) => gateway.upgrade(request, socket, head),
      media: createMedia(surroundings, simAuth, undefined, simImages),
      health: () => [],
      clock,
      log,
      config: { ...edgeConfig, chat: limits },
    });
  }

  serve(socket: Duplex): void {
    this.#open.add(socket);
    socket.once("close", () => {
      this.#open.delete(socket);
      if (this.#open.size === 0) this.#wake();
    });
    this.#server.serve(socket);
  }

  /** Calls under way have so long: the server waits only for what it accepted itself. */
  async close(graceMs: number): Promise<void> {
    await this.#server.close(graceMs);
    if (this.#open.size === 0) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      this.#surroundings.clock.after(graceMs, resolve);
    });
    for (const socket of this.#open) socket.destroy();
  }
}
