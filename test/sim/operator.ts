/** Operators of a simulated cluster: what they ask of a gateway, as the command line does, and rolling restarts. */
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { sleep } from "../../mesh/clock.ts";
import type { ServiceName } from "../../mesh/directory.ts";
import { GatewayService } from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { type SimTransport, simTransport } from "./calls.ts";
import type { Host } from "./host.ts";
import type { SimProcess } from "./process.ts";
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
const againMs = 2_000;

export class Operator {
  readonly #world: World;
  readonly #host: Host;
  #underWay = 0;
  /** Rolling restarts that were done. */
  rolled = 0;

  constructor(world: World) {
    this.#world = world;
    this.#host = world.host("operator");
  }

  get busy(): boolean {
    return this.#underWay > 0;
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

  /** As `parley erase`, until it is done. */
  erase(userId: string, done: () => void): void {
    this.#note(`erases ${userId}`);
    this.#host.hears(() => this.#goOn(this.#erase(userId).then(done)));
  }

  async #erase(userId: string): Promise<void> {
    for (let finished = false; !finished;) {
      const channel = this.#anyGateway();
      try {
        if (channel === undefined) throw new Error("there is no gateway");
        const gateway = createClient(GatewayService, channel);
        let doneMs = 0n;
        for await (const { receipt } of gateway.eraseUser({ userId }))
          doneMs = receipt?.finishedMs ?? 0n;
        finished = doneMs > 0n;
      } catch (error) {
        this.#note(`could not erase ${userId} yet: ${String(error)}`);
      }
      channel?.close();
      if (!finished) await sleep(this.#host.clock, againMs);
    }
    this.#note(`has erased ${userId}`);
  }

  /** As `parley retention`, until what is due is removed. */
  trim(conversationId: string, retentionMs: number, told: (floorSeq: number) => void): void {
    this.#note(`keeps ${conversationId} for ${retentionMs} ms`);
    this.#host.hears(() => this.#goOn(this.#trim(conversationId, retentionMs).then(told)));
  }

  async #trim(conversationId: string, retentionMs: number): Promise<number> {
    let floorSeq = 1;
    for (let done = false; !done;) {
      const storage = this.#world.alive("storage").find(({ listening }) => listening);
      const channel = storage && this.#channel(storage);
      try {
        if (channel === undefined) throw new Error("there is no storage");
        const client = createClient(StorageService, channel);
        await client.setRetention({ conversationId, retentionMs: BigInt(retentionMs) });
        for (let more = true; more;) {
          const step = await client.sweepRetention({ conversationId });
          more = step.more;
          floorSeq = step.retention?.floorSeq ?? 1;
        }
        done = true;
      } catch (error) {
        this.#note(`could not remove what is old of ${conversationId} yet: ${String(error)}`);
        // Nobody has written there.
        done = ConnectError.from(error).code === Code.NotFound;
      }
      channel?.close();
      if (!done) await sleep(this.#host.clock, againMs);
    }
    this.#note(`has removed what is old of ${conversationId}, before #${floorSeq}`);
    return floorSeq;
  }

  /** The world is not over before. */
  #goOn(work: Promise<void>): void {
    this.#underWay += 1;
    work.then(
      () => (this.#underWay -= 1),
      (error: unknown) => this.#world.timeline.fail(error),
    );
  }

  /** All processes of a service are stopped and started, one after the other. */
  roll(which: number): boolean {
    const service = restartable[Math.floor(which * restartable.length)] ?? "gateway";
    const all = this.#world.alive(service);
    this.#note(`restarts all ${service} processes`);
    this.rolled += 1;
    const restarted = this.#restart([...all]);
    this.#goOn(restarted.then(() => this.#note(`has restarted all ${service} processes`)));
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

  #anyGateway(): SimTransport | undefined {
    const world = this.#world;
    const gateway = world.anyGateway(this.#host);
    return gateway && this.#channel(gateway);
  }

  #channel(process: SimProcess): SimTransport {
    const { network, options } = this.#world;
    const callee = () => (process.listening ? process : undefined);
    return simTransport({ network, host: this.#host, callee, wire: options.wire });
  }

  #note(what: string): void {
    this.#world.timeline.note(`the operator ${what}`);
  }
}
