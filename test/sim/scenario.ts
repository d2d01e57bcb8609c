/** What a seed stands for: how many processes and people, how the network is, and the harm that is done. */
import type { Random } from "../../mesh/random.ts";
import { seededRandom } from "../../mesh/random.ts";
import type { Act } from "./acts.ts";
import { type Fault, type FaultKind, faultKinds, faultsOf } from "./faults.ts";
import { overCassandra } from "./store/world.ts";
import { widened } from "./wide.ts";
import { type People, peopleOf } from "./workload.ts";
import type { WorldOptions } from "./world.ts";

export interface Scenario {
  readonly seed: number;
  readonly world: Omit<WorldOptions, "seed" | "log">;
  readonly people: People;
  /** What people do in all. */
  readonly operations: number;
  readonly horizonMs: number;
  readonly faults: readonly Fault[];
  /** Of a wide world. */
  readonly acts?: readonly Act[];
  /** At the end some people leave, and the others must be told. */
  readonly leaves: boolean;
  readonly store: StoreKind;
}

/** Where rows are kept: one store in memory that never fails, or three replicas, with trouble of their own or without. */
export const stores = ["memory", "cassandra", "cassandra in trouble"] as const;
export type StoreKind = (typeof stores)[number];

/** Devices have WebSockets alone, or all ways that there are, and operators have a hand in it. */
export const worlds = ["narrow", "wide"] as const;
export type WorldKind = (typeof worlds)[number];

export interface ScenarioOptions {
  /** Narrow, if not told. */
  readonly world?: WorldKind;
  /** Instead of what the seed says. */
  readonly store?: StoreKind;
  /** How much people do; the time is in proportion. */
  readonly steps?: number;
  /** None but these. */
  readonly kinds?: readonly FaultKind[];
}

const between = (random: Random, least: number, most: number): number =>
  least + Math.floor(random.unit() * (most - least + 1));

export function scenarioOf(
  seed: number,
  { world = "narrow", ...options }: ScenarioOptions = {},
): Scenario {
  const narrow = narrowOf(seed, options);
  return world === "narrow" ? narrow : widened(narrow);
}

function narrowOf(seed: number, { steps = 60, kinds, store }: ScenarioOptions): Scenario {
  const random = seededRandom(seed);
  const people = peopleOf(random, between(random, 3, 5));
  const operations = between(random, Math.ceil(steps / 2), steps);
  const horizonMs = Math.max(5_000, operations * between(random, 100, 600));
  const all = kinds ?? kindsOf(random);
  const kept = store ?? stores[Math.floor(random.unit() * stores.length)] ?? "memory";
  const count = between(random, 0, Math.max(2, Math.ceil(steps / 8)));
  return {
    seed,
    people,
    operations,
    horizonMs,
    faults: faultsOf(random, all, count, [500, horizonMs]),
    leaves: random.unit() < 0.3,
    store: kept,
    world: {
      processes: {
        gateway: between(random, 1, 3),
        session: between(random, 1, 3),
        delivery: between(random, 1, 3),
        presence: between(random, 1, 2),
        storage: between(random, 1, 2),
      },
      shards: between(random, 1, 6),
      leaseMs: 5_000,
      network: {
        latencyMs: [0.2, 0.5 + random.unit() * 5],
        slowChance: random.unit() * 0.1,
        slowMs: random.unit() < 0.2 ? 500 : 40,
      },
      clockOffsetMs: random.unit() < 0.5 ? 0 : 3_600_000,
      clockDrift: random.unit() < 0.5 ? 0 : 0.02,
      turnMs: random.unit() < 0.5 ? 0.2 : 5,
      wire: random.unit() < 0.1,
      ...storeOf(kept, horizonMs, all.includes("torn-takeover")),
      settings: { PARLEY_HEARTBEAT_MS: "5000", PARLEY_UNACKED_RETRY_MS: "3000" },
    },
  };
}

/** Some seeds do one kind of harm again and again, most do a few. */
function kindsOf(random: Random): FaultKind[] {
  const dice = random.unit();
  if (dice < 0.07) return ["registry-away"];
  if (dice < 0.14) return faultKinds.filter((kind) => kind.startsWith("device-"));
  return some(random, dice < 0.35 ? 1 : between(random, 2, 6));
}

function some(random: Random, count: number): FaultKind[] {
  return Array.from(
    { length: count },
    () => faultKinds[Math.floor(random.unit() * faultKinds.length)] ?? "kill",
  );
}

function storeOf(kind: StoreKind, horizonMs: number, torn: boolean): Pick<WorldOptions, "store"> {
  if (kind === "memory") return {};
  const trouble = { fromMs: 1_500, toMs: horizonMs };
  return { store: overCassandra(kind === "cassandra" ? undefined : trouble, torn) };
}
