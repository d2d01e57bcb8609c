/** A device whose stream is at another gateway than its call, as behind a load balancer it may be: that gateway watches for it. */
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { GatewayService } from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { SessionService } from "../proto/gen/parley/session/v1/session_pb.ts";
import type { Presence } from "../proto/gen/parley/v1/record_pb.ts";
import { Asking, answerMs } from "./asking.ts";
import type { Caller } from "./ports.ts";

const timeoutMs = answerMs;

/** It has no stream there any more, or the gateway is of an older version: nobody watches for the device. */
const nobodyCodes = new Set<Code>([Code.NotFound, Code.Unimplemented]);

export class WatchElsewhere {
  readonly #surroundings: Surroundings;

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
  }

  /** Resolves to how they are; undefined: the device has no stream at another gateway. Fails where session or that gateway gives no answer. */
  async watch({ userId, deviceId }: Caller, userIds: string[]): Promise<Presence[] | undefined> {
    const { identity } = this.#surroundings;
    const others = this.#surroundings
      .peers(GatewayService)
      .present.filter(({ id }) => id !== identity.id);
    if (others.length === 0) return undefined;
    const at = await this.#gatewaysOf(userId, deviceId);
    const asked = { userId, deviceId, userIds };
    for (const { transport } of others.filter(({ id }) => at.has(id))) {
      try {
        const gateway = createClient(GatewayService, transport);
        return (await gateway.watchPresence(asked, { timeoutMs })).presences;
      } catch (error) {
        if (!nobodyCodes.has(ConnectError.from(error).code)) throw error;
      }
    }
    return undefined;
  }

  /** By the ids of their processes. */
  async #gatewaysOf(userId: string, deviceId: string): Promise<Set<string>> {
    const peer = new Asking(this.#surroundings).placeOf(SessionService, userId);
    if (peer === undefined) return new Set();
    const session = createClient(SessionService, peer.transport);
    const { sessions } = await session.listSessions({ userId }, { timeoutMs });
    return new Set(sessions.flatMap((one) => (one.deviceId === deviceId ? [one.bootId] : [])));
  }
}
