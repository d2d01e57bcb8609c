/** The store of a simulated world's storage processes: each has the product's own, over one simulated Cassandra. */
import type { StoreFactory, World } from "../world.ts";
import { SimulatedCassandra, storeOver } from "./cassandra.ts";
import { stormy, type Weather } from "./network.ts";
import { Tearing } from "./tearing.ts";

/** Cassandra's nodes go away and come back between these times, and its network is bad; afterwards all is well. */
export interface Trouble {
  readonly fromMs: number;
  readonly toMs: number;
  readonly weather?: Weather;
}

/** `torn`: takeovers may be torn, see tearing.ts. */
export const overCassandra =
  (trouble?: Trouble, torn = false): StoreFactory =>
  (world) => {
    const { clock } = world.host("cassandra");
    const { patch } = world.options;
    const cassandra = new SimulatedCassandra(clock, world.chance("cassandra"), patch?.rules);
    if (trouble !== undefined) arm(cassandra, trouble, world);
    const tearing = torn ? new Tearing(world, cassandra) : undefined;
    world.tearing = tearing;
    return (process, { clock: own, random, log }) => {
      const client = cassandra.client(process.address, own);
      const way = tearing?.nodes(client, process) ?? client;
      const nodes = patch?.nodes?.(way, process) ?? way;
      const kept = storeOver(nodes, { clock: own, random, log });
      const store = tearing?.store(kept, process) ?? kept;
      return Promise.resolve(patch?.store?.(store, process, nodes) ?? store);
    };
  };

function arm(
  cassandra: SimulatedCassandra,
  { fromMs, toMs, weather = stormy }: Trouble,
  world: World,
): void {
  const { timeline } = world;
  const { network, nodes } = cassandra;
  const random = world.chance("trouble of cassandra");
  const below = (bound: number): number => Math.floor(random.unit() * bound);
  timeline.at(fromMs, () => (cassandra.weather = weather));
  for (let atMs = fromMs; atMs < toMs; atMs += 1_000 + below(6_000)) {
    timeline.at(atMs, () => {
      const node = nodes[below(nodes.length)];
      timeline.note(`cassandra: ${node?.name} goes away`);
      node?.goDown();
      timeline.in(below(5_000), () => node?.comeUp());
    });
  }
  timeline.at(toMs, () => {
    for (const node of nodes) node.comeUp();
    network.heal();
    network.weather = { ...stormy, lost: 0, slow: 0, refused: 0, halfway: 0, mostMs: 2 };
    timeline.note("cassandra: all is well");
  });
}
