/** The store of a simulated world's storage processes: each has the product's own, over one simulated Cassandra. */
import type { StoreFactory } from "../world.ts";
import { SimulatedCassandra } from "./cassandra.ts";
import { stormy } from "./network.ts";

/** Cassandra's nodes go away and come back between these times, and its network is bad; afterwards all is well. */
export interface Trouble {
  readonly fromMs: number;
  readonly toMs: number;
}

export const overCassandra =
  (trouble?: Trouble): StoreFactory =>
  (world) => {
    const { clock } = world.host("cassandra");
    const cassandra = new SimulatedCassandra(clock, world.chance("cassandra"));
    if (trouble !== undefined) arm(cassandra, trouble, world.timeline);
    return (process, { clock: own, random, log }) =>
      Promise.resolve(cassandra.open(process.address, { clock: own, random, log }));
  };

function arm(
  cassandra: SimulatedCassandra,
  { fromMs, toMs }: Trouble,
  timeline: Parameters<StoreFactory>[0]["timeline"],
): void {
  const { network, nodes } = cassandra;
  timeline.at(fromMs, () => (cassandra.weather = stormy));
  for (let atMs = fromMs; atMs < toMs; atMs += 1_000 + network.below(6_000)) {
    timeline.at(atMs, () => {
      const node = nodes[network.below(nodes.length)];
      timeline.note(`cassandra: ${node?.name} goes away`);
      node?.goDown();
      timeline.in(network.below(5_000), () => node?.comeUp());
    });
  }
  timeline.at(toMs, () => {
    for (const node of nodes) node.comeUp();
    network.heal();
    network.weather = { ...stormy, lost: 0, slow: 0, refused: 0, halfway: 0, mostMs: 2 };
    timeline.note("cassandra: all is well");
  });
}
