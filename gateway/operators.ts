/** What operators see of this gateway alone, and how they empty it. */
import { sleep } from "../mesh/clock.ts";
import type { Clock } from "../mesh/clock.ts";
import { invalid } from "../mesh/errors.ts";
import type { Random } from "../mesh/random.ts";
import { CloseReason } from "../proto/gen/parley/v1/chat_pb.ts";
import type {
  Connection,
  DisconnectRequest,
  ListConnectionsRequest,
  ListConnectionsResponse,
} from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { comeBackMs } from "./connection.ts";
import type { Connections, Recipient } from "./connections.ts";
import type { Elsewhere } from "./elsewhere.ts";

const listMax = 1_000;
const listUsual = 200;
const usersMax = 1_000;
const spreadMaxMs = 600_000;
const stepMs = 100;
/** How long the last sockets may take to close. */
const goneMs = 10_000;
const goneStepMs = 250;
/** Where another gateway lives: what each connection that is told at the same time adds to the time over which they come back. */
const comeBackEachMs = 1;

export class Operators {
  readonly gatewayId: string;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #connections: Connections;
  readonly #elsewhere: Elsewhere;

  constructor(
    gatewayId: string,
    clock: Clock,
    random: Random,
    connections: Connections,
    elsewhere: Elsewhere,
  ) {
    this.gatewayId = gatewayId;
    this.#clock = clock;
    this.#random = random;
    this.#connections = connections;
    this.#elsewhere = elsewhere;
  }

  problems(): string[] {
    if (!this.#connections.closed) return [];
    return ["the gateway was drained: it takes no connections until it is started again"];
  }

  listConnections(request: ListConnectionsRequest): ListConnectionsResponse {
    const { userId, userIds, afterConnection, limit, conversationId } = request;
    if (limit > listMax) throw invalid(`limit is more than ${listMax}`);
    if (userIds.length > usersMax) throw invalid(`there are more than ${usersMax} user_ids`);
    if (userId !== "" && userIds.length > 0) throw invalid("set user_id or user_ids, not both");
    const most = limit === 0 ? listUsual : limit;
    const asked = userId === "" ? userIds : [userId];
    const nowMs = this.#clock.monotonic();
    const connections: Connection[] = [];
    let total = 0;
    for (const one of this.#of(asked)) {
      total += 1;
      if (one.number > afterConnection && connections.length < most)
        connections.push(this.#shown(one, conversationId, nowMs));
    }
    const $typeName = "parley.gateway.v1.ListConnectionsResponse";
    return { $typeName, connections, total, unanswered: [] };
  }

  *#of(userIds: readonly string[]): Generator<Recipient, void> {
    if (userIds.length === 0) yield* this.#connections.all();
    for (const userId of new Set(userIds)) yield* this.#connections.ofUser(userId);
  }

  #shown(one: Recipient, conversationId: string, nowMs: number): Connection {
    const { stage, unacked } = one.inspect(conversationId, nowMs);
    const $typeName = "parley.gateway.v1.Unacked";
    return {
      $typeName: "parley.gateway.v1.Connection",
      connection: one.number,
      userId: one.userId,
      deviceId: one.deviceId,
      kind: one.kind,
      sinceMs: BigInt(Math.floor(one.sinceMs)),
      outboxBytes: one.outboxBytes,
      remoteAddress: one.remoteAddress,
      gatewayId: this.gatewayId,
      stage,
      ...(unacked === undefined ? {} : { unacked: { $typeName, ...unacked } }),
    };
  }

  disconnect({ target }: DisconnectRequest): { ended: number } {
    switch (target.case) {
      case "userId": {
        const all = [...this.#connections.ofUser(target.value)];
        for (const one of all) this.#end(one, comeBackMs);
        return { ended: all.length };
      }
      case "connection": {
        const one = this.#connections.get(target.value);
        if (one !== undefined) this.#end(one, comeBackMs);
        return { ended: one === undefined ? 0 : 1 };
      }
      case undefined:
        throw invalid("set user_id or connection: whom to disconnect?");
    }
  }

  async drain({ spreadMs }: { spreadMs: number }): Promise<{ ended: number }> {
    if (spreadMs > spreadMaxMs) throw invalid(`spread_ms is more than ${spreadMaxMs}`);
    return { ended: await this.empty(spreadMs) };
  }

  /** Takes no new connections and ends the present ones, evenly over the time. Answers how many there were. */
  async empty(spreadMs: number): Promise<number> {
    this.#connections.close();
    const leaving = [...this.#connections.all()];
    const beganMs = this.#clock.monotonic();
    const total = leaving.length;
    for (let ended = 0; ended < total;) {
      const share = spreadMs === 0 ? 1 : (this.#clock.monotonic() - beganMs) / spreadMs;
      const due = Math.min(total, Math.ceil(share * total));
      const withinMs = this.#comeBackMs(due - ended);
      for (const one of leaving.slice(ended, due))
        this.#end(one, withinMs, this.#elsewhere.sibling());
      ended = due;
      if (ended < total) await sleep(this.#clock, stepMs * (0.5 + this.#random.unit()));
    }
    const untilMs = this.#clock.monotonic() + goneMs;
    while (this.#connections.size > 0 && this.#clock.monotonic() < untilMs) {
      await Promise.race([this.#connections.empty(), sleep(this.#clock, goneStepMs)]);
    }
    return total;
  }

  /** Over how long so many come back who are told at once. Where nobody else takes them, they have to wait for whoever comes next. */
  #comeBackMs(count: number): number {
    return this.#elsewhere.alone ? comeBackMs : Math.min(count * comeBackEachMs, comeBackMs);
  }

  /** A staggered return keeps those who come back from coming all at once. */
  #end(one: Recipient, withinMs: number, url = ""): void {
    const afterMs = Math.ceil(this.#random.unit() * withinMs);
    one.end(CloseReason.DRAINING, "this gateway is going away", afterMs, url);
  }
}
