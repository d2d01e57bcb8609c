/** One run of one seed: the world begins, people write, harm is done, all is healed, and what was seen is held against the promises. */
import {
  reportOf,
  check,
  type Finding,
  type HistoryOf,
  type Observed,
  type SeenCursor,
} from "../support/checker.ts";
import { seededRandom } from "../../mesh/random.ts";
import type { SimDevice } from "./device.ts";
import { withoutEscapes } from "./escapes.ts";
import { World, type WorldOptions } from "./world.ts";

export interface RunOptions {
  readonly seed: number;
  readonly trace?: (line: string) => void;
  readonly log?: (line: string) => void;
}

export interface RunResult {
  readonly seed: number;
  readonly digest: string;
  readonly findings: readonly Finding[];
  readonly events: number;
  readonly virtualMs: number;
  readonly acked: number;
}

const standard: Omit<WorldOptions, "seed" | "log"> = {
  processes: { gateway: 2, session: 2, delivery: 2, presence: 2, storage: 2 },
  shards: 4,
  leaseMs: 5_000,
  network: { latencyMs: [0.2, 2], slowChance: 0.02, slowMs: 50 },
  clockOffsetMs: 60_000,
  clockDrift: 0.005,
  turnMs: 0.5,
  wire: false,
  settings: {},
};

const calmMs = 60_000;

export async function run(options: RunOptions): Promise<RunResult> {
  return withoutEscapes(() => simulate(options));
}

async function simulate({ seed, trace, log }: RunOptions): Promise<RunResult> {
  const world = new World({ ...standard, seed, ...(log === undefined ? {} : { log }) });
  const { timeline } = world;
  timeline.onNote = trace;
  const random = seededRandom(seed);
  world.begin();
  await timeline.runUntil(3_000, () => world.processes.every((one) => one.problems().length === 0));
  const members = new Map<string, readonly string[]>();
  const users = ["ann", "bob", "cy", "dee"];
  for (const userId of users)
    for (const deviceId of random.unit() < 0.5 ? ["phone"] : ["phone", "desk"])
      world.device(userId, deviceId).connect();
  for (let at = 0; at < users.length; at += 1) {
    const [one = "", other = ""] = [users[at], users[(at + 1) % users.length]].toSorted();
    members.set(`d:${one}:${other}`, [one, other]);
  }
  const ids = [...members.keys()];
  for (let n = 0; n < 60; n += 1) {
    const id = ids[Math.floor(random.unit() * ids.length)] ?? "";
    const among = world.devices.filter((one) => members.get(id)?.includes(one.userId));
    const device = among[Math.floor(random.unit() * among.length)];
    if (device === undefined) continue;
    const other = members.get(id)?.find((one) => one !== device.userId) ?? "";
    timeline.at(3_000 + random.unit() * 20_000, () => device.send({ user: other }, id));
  }
  await timeline.runUntil(25_000);
  const sendings = (): SimDevice["sendings"] => world.devices.flatMap((one) => one.sendings);
  await timeline.runUntil(timeline.nowMs + calmMs, () =>
    sendings().every(({ seq, failed }) => seq !== undefined || failed),
  );
  const observed = await observe(world, members);
  const findings = check(observed);
  timeline.note(`${timeline.events} events`);
  if (findings.length > 0) trace?.(reportOf(findings));
  return {
    seed,
    digest: timeline.digest(),
    findings,
    events: timeline.events,
    virtualMs: timeline.nowMs,
    acked: sendings().filter(({ seq }) => seq !== undefined).length,
  };
}

/** Asked of the servers anew, once all devices had time to come to the end. */
async function observe(
  world: World,
  members: ReadonlyMap<string, readonly string[]>,
): Promise<Observed> {
  const { timeline } = world;
  const histories: HistoryOf[] = [];
  const cursors: SeenCursor[] = [];
  const asked: Promise<unknown>[] = [];
  for (const [conversationId, userIds] of members) {
    for (const userId of userIds) {
      const device = world.devices.find((one) => one.userId === userId);
      if (device === undefined) continue;
      asked.push(
        device
          .history(conversationId)
          .then((records) => histories.push({ conversationId, userId, records })),
      );
    }
  }
  let answered = false;
  const all = Promise.all(asked).then(() => (answered = true));
  await timeline.runUntil(timeline.nowMs + calmMs, () => answered);
  if (!answered) throw new Error("histories are not answered");
  await all;
  const heads = new Map(histories.map((one) => [one.conversationId, one.records.length]));
  const behind = (): boolean =>
    world.devices.some((device) =>
      [...heads].some(
        ([id, head]) => members.get(id)?.includes(device.userId) && device.gotOf(id) < head,
      ),
    );
  await timeline.runUntil(timeline.nowMs + calmMs, () => !behind());
  return {
    members,
    sent: world.devices.flatMap((one) => one.sendings),
    devices: world.devices.flatMap((one) => one.logs()),
    histories,
    cursors,
  };
}
