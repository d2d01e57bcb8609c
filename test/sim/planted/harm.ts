/** Runs that give a planted fault its chance: short, with much of the harm that it takes, at the services that it concerns. */
import { seededRandom } from "../../../mesh/random.ts";
import { serviceNames, type ServiceName } from "../../../mesh/directory.ts";
import { type ActKind, twiceEach } from "../acts.ts";
import { faultsOf, type FaultKind } from "../faults.ts";
import type { Patch } from "../patch.ts";
import { scenarioOf, type Scenario } from "../scenario.ts";
import { gale, stormy, type Weather } from "../store/network.ts";
import { overCassandra } from "../store/world.ts";
import { widened } from "../wide.ts";
import type { People } from "../workload.ts";

export interface Harm {
  readonly kinds: readonly FaultKind[];
  readonly services: readonly ServiceName[];
  readonly count: number;
  /** Cassandra's nodes and ways are bad, too. */
  readonly cassandra: Weather | undefined;
  /** Three people with a device each write a lot into few conversations. */
  readonly few: boolean;
  /** At the end people go, and the others are to be told. */
  readonly leaves: boolean;
  /** Takeovers may be torn. */
  readonly torn?: boolean;
  /** In a wide world, of which each of these is done twice. */
  readonly acts?: readonly ActKind[];
}

/** Owners of conversations stand still, are cut off, and die. */
export const ofOwners: Harm = {
  kinds: ["pause", "pause", "isolate", "kill", "lease-ends"],
  services: ["delivery", "delivery", "storage"],
  count: 8,
  cassandra: stormy,
  few: true,
  leaves: false,
};

/** Owners are stopped within what they write, one after the other. */
export const ofTakeovers: Harm = {
  kinds: ["torn-takeover"],
  services: ["delivery"],
  // One at a time: those for which it is too early do nothing.
  count: 30,
  cassandra: undefined,
  few: true,
  leaves: false,
  torn: true,
};

/** Cassandra alone. */
export const ofTheStore: Harm = {
  kinds: ["kill"],
  services: ["storage"],
  count: 2,
  cassandra: gale,
  few: true,
  leaves: false,
};

export const ofDevices: Harm = {
  kinds: ["device-vanishes", "device-unreachable", "kill", "vanish"],
  services: ["gateway", "session", "delivery"],
  count: 6,
  cassandra: undefined,
  few: false,
  leaves: true,
};

/** What operators and flooders do, with little harm besides. */
const ofActs = (...acts: ActKind[]): Harm => ({
  kinds: ["device-vanishes"],
  services: ["gateway"],
  count: 1,
  cassandra: undefined,
  few: true,
  leaves: false,
  acts,
});
export const ofErasures = ofActs("sends an image", "erases");
export const ofImages = ofActs("sends an image");
export const ofRetention = ofActs("trims");
export const ofFloods = ofActs("floods");

const few: People = {
  users: ["ann", "bob", "cy"],
  devices: new Map(["ann", "bob", "cy"].map((userId) => [userId, ["phone"]])),
  groups: 1,
  silentMembers: 0,
};
/** Much is written at once, and does not fit into one request. */
const wordy: People = { ...few, bursts: 0.5, textBytes: 1_500 };

export function plantedIn(seed: number, harm: Harm, patch: Patch): Scenario {
  const narrow = narrowIn(seed, harm, patch);
  if (harm.acts === undefined) return narrow;
  const { horizonMs } = narrow;
  return { ...widened(narrow), acts: twiceEach(seededRandom(seed), harm.acts, horizonMs - 2_000) };
}

function narrowIn(seed: number, harm: Harm, patch: Patch): Scenario {
  const { torn = false } = harm;
  const horizonMs = torn ? 10_000 : 16_000;
  const base = scenarioOf(seed, { steps: 60, kinds: [] });
  const random = seededRandom(seed);
  const faults = faultsOf(random, harm.kinds, harm.count, [1_500, horizonMs - 2_000]);
  const aimed = faults.map((fault) => {
    const service = harm.services[Math.floor(random.unit() * harm.services.length)] ?? "delivery";
    // The middle of the service's share of the chances.
    const at = (serviceNames.indexOf(service) + 0.5) / serviceNames.length;
    return {
      ...fault,
      forMs: torn ? 5_000 : Math.min(fault.forMs, 25_000),
      who: [at, fault.who[1], fault.who[2]] as const,
    };
  });
  const trouble = harm.cassandra && { fromMs: 1_500, toMs: horizonMs, weather: harm.cassandra };
  return {
    ...base,
    leaves: harm.leaves,
    operations: torn ? 45 : harm.few ? 90 : 50,
    horizonMs,
    people: torn ? wordy : harm.few ? few : { ...base.people, silentMembers: 0 },
    faults: aimed,
    world: {
      ...base.world,
      processes: {
        gateway: 2,
        session: 2,
        delivery: torn ? 4 : 3,
        presence: 1,
        storage: torn ? 3 : 2,
      },
      shards: torn ? 1 : 3,
      leaseMs: 3_000,
      // Of what is timed by clocks one must be able to be behind.
      ...(torn ? { clockOffsetMs: 3_600_000 } : {}),
      store: overCassandra(trouble, torn),
      patch,
    },
  };
}
