/** Operators of a simulated cluster: what they ask of a gateway, as the command line does, and rolling restarts. */
import { createClient } from "@connectrpc/connect";
import { GatewayService } from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import type { ServiceName } from "../../mesh/directory.ts";
import { simTransport } from "./calls.ts";
import type { Host } from "./host.ts";
import type { World } from "./world.ts";

const restartable: readonly ServiceName[] = [
  "gateway",
  "session",
  "delivery",
  "presence",
  "storage",
];
const drainMs = 2_000;
const waitMs = 10_000;

export class Operator {
  readonly #world: World;
  readonly #host: Host;
  #rolls = 0;
  /** Rolling restarts that were done. */
  rolled = 0;

  constructor(world: World) {
    this.#world = world;
    this.#host = world.host("operator");
  }

  get rolling(): boolean {
    return this.#rolls > 0;
  }

  /** As `parley move`, to one of those that there are, or back to where hashing places it. */
  moveShard([which, where, back]: readonly [number, number, number]): boolean {
    const world = this.#world;
    const shard = Math.floor(which * world.options.shards);
    const there = world.alive("delivery");
    const to = there[Math.floor(where * there.length)];
    const toProcessId = back < 0.2 ? "" : (to?.id ?? "");
    const name = toProcessId === "" ? "where it belongs" : to?.address;
    const channel = this.#anyGateway();
    if (channel === undefined) return false;
    this.#host.hears(() => {
      this.#note(`moves shard ${shard} to ${name}`);
      const gateway = createClient(GatewayService, channel);
      gateway
        .moveShard({ which: { case: "shard", value: shard }, toProcessId, waitMs })
        .then(
          () => this.#note(`has moved shard ${shard} to ${name}`),
          (error: unknown) => this.#note(`could not move shard ${shard}: ${String(error)}`),
        )
        .finally(() => channel.close());
    });
    return true;
  }

  /** All processes of a service are stopped and started, one after the other. */
  roll(which: number): boolean {
    const service = restartable[Math.floor(which * restartable.length)] ?? "gateway";
    const all = this.#world.alive(service);
    this.#note(`restarts all ${service} processes`);
    this.#rolls += 1;
    this.rolled += 1;
    void this.#restart([...all]).then(
      () => {
        this.#rolls -= 1;
        this.#note(`has restarted all ${service} processes`);
      },
      (error: unknown) => this.#world.timeline.fail(error),
    );
    return true;
  }

  async #restart(all: World["processes"]): Promise<void> {
    for (const process of all) {
      // A fault was there first, and has it start again.
      if (process.ends) continue;
      await process.stop(drainMs);
      this.#world.startProcess(process.service, process.place);
    }
  }

  #anyGateway() {
    const world = this.#world;
    const gateway = world.anyGateway(this.#host);
    if (gateway === undefined) return undefined;
    const { network } = world;
    const callee = () => (gateway.listening ? gateway : undefined);
    return simTransport({ network, host: this.#host, callee, wire: world.options.wire });
  }

  #note(what: string): void {
    this.#world.timeline.note(`the operator ${what}`);
  }
}
