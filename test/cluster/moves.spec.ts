/** An operator moves the shards of conversations to and fro while people write into them: apps do not see it. */
import assert from "node:assert/strict";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "../../mesh/grpc/transport.ts";
import { GatewayService, type Process } from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import type { Proxy } from "../support/proxy.ts";
import { newCluster } from "./ground.ts";
import type { OwnCluster } from "./ground.ts";
import { Storm, balancerOf } from "./storm.ts";

const waitMs = 60_000;
const rounds = 3;
const triesMax = 5;

describe("shards moved by an operator under load", () => {
  let own: OwnCluster;
  let balancer: Proxy;

  before(async function () {
    this.timeout(300_000);
    own = await newCluster();
    balancer = await balancerOf(own.cluster);
  });
  after(async function () {
    this.timeout(120_000);
    await balancer?.close();
    await own?.close();
  });

  /** Over a connection of its own, as the command does it; of one gateway or the other. Each call may come again: one that was not taken does. */
  async function operating<T>(
    at: number,
    run: (operator: Client<typeof GatewayService>) => Promise<T>,
  ): Promise<T> {
    const { mesh: address } = own.cluster.process(`gateway-${at % 2}`);
    for (let tries = 1; ; tries += 1) {
      const transport = createGrpcTransport({ address });
      try {
        return await run(createClient(GatewayService, transport));
      } catch (error) {
        if (tries === triesMax || ConnectError.from(error).code !== Code.Unavailable) throw error;
      } finally {
        transport.close();
      }
    }
  }

  const deliveries = (): Promise<Process[]> =>
    operating(0, async (operator) => {
      const { processes } = await operator.listProcesses({});
      return processes.filter(({ service }) => service === "delivery");
    });

  /** To a process that does not serve it now, if none is named. */
  const move = (at: number, conversationId: string, to?: string): Promise<void> =>
    operating(at, async (operator) => {
      const which = { case: "conversationId", value: conversationId } as const;
      const { shard } = await operator.getShard({ which });
      const others = (await deliveries()).filter(({ processId }) => processId !== shard?.ownerId);
      const toProcessId = to ?? others[at % others.length]?.processId ?? "";
      const moved = await operator.moveShard({ which, toProcessId, waitMs });
      assert.equal(moved.shard?.ownerId, toProcessId);
    });

  it("P1 P2 P3 P4 P5 P6 P7: each of all conversations' shards, again and again: not one failed send", async function () {
    this.timeout(600_000);
    const storm = await Storm.over([balancer.url], "moves");
    try {
      let [moves, slowestMs] = [0, 0];
      for (let round = 0; round < rounds; round += 1) {
        for (const conversationId of storm.load.conversations) {
          const begunMs = performance.now();
          await move(moves, conversationId);
          slowestMs = Math.max(slowestMs, performance.now() - begunMs);
          moves += 1;
        }
        // All at once, to one process, and then back to where hashing places them.
        const [to] = await deliveries();
        await Promise.all(storm.load.conversations.map((id, at) => move(at, id, to?.processId)));
        await storm.more(500);
        await operating(1, async (operator) => {
          for (const value of storm.load.conversations)
            await operator.moveShard({ which: { case: "conversationId", value } });
        });
        await storm.more(500);
      }
      storm.note(`${moves} moves, the slowest took ${Math.round(slowestMs)} ms`);
      await storm.end();
    } finally {
      await storm.load.close();
    }
  });
});
