/** The suite of all stores, for the store of a cluster over a simulated Cassandra without faults. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { seededRandom } from "../../../mesh/random.ts";
import { openMediaFolder } from "../../../storage/index.ts";
import { storeSuite, type OpenedStore } from "../../conformance/store.ts";
import { SimulatedCassandra, storeOver } from "./cassandra.ts";
import { IdleClock } from "./idle.ts";

async function open(): Promise<OpenedStore> {
  const folder = await mkdtemp(join(tmpdir(), "parley-media-"));
  const random = seededRandom(1);
  const clock = new IdleClock();
  const cassandra = new SimulatedCassandra(clock, random);
  const outside = { clock, random, log: pino({ level: "silent" }) };
  const media = await openMediaFolder(folder, random);
  return {
    store: storeOver(cassandra.client("storage-1", clock), outside),
    media,
    remove: () => rm(folder, { recursive: true }),
  };
}

storeSuite("cassandra, simulated", open, { reads: false, manyMembers: 6_000 });
