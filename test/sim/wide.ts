/** The wide world: the same seed with more in it. What is added has chances of its own, so that what there was stays as it is. */
import { type Random, seededRandom } from "../../mesh/random.ts";
import { actsOf } from "./acts.ts";
import type { Way } from "./device.ts";
import type { Scenario } from "./scenario.ts";

const ways: readonly Way[] = ["websocket", "connect", "poll", "pull"];

/** A user's first device is one that others see online. */
function wayOf(random: Random, isFirst: boolean): Way {
  const among = isFirst ? ways.slice(0, 3) : ways;
  return among[Math.floor(random.unit() * among.length)] ?? "websocket";
}

export function widened(narrow: Scenario): Scenario {
  const random = seededRandom(narrow.seed ^ 0x77_69_64_65);
  const devices = [...narrow.people.devices].flatMap(([userId, names]) =>
    names.map((name, at) => [`${userId}/${name}`, wayOf(random, at === 0)] as const),
  );
  return {
    ...narrow,
    acts: actsOf(random, Math.ceil(narrow.operations / 4), narrow.horizonMs),
    people: { ...narrow.people, ways: new Map(devices) },
    world: {
      ...narrow.world,
      wide: true,
      settings: { ...narrow.world.settings, PARLEY_RATE_PER_SECOND: "200" },
    },
  };
}
