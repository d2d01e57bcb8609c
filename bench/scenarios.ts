/** What is measured: which loads on which servers, which rows and goals come of it. */
import type {
  Grown,
  GrowthResult,
  IdleJob,
  IdleResult,
  Job,
  LoadResult,
  Measured,
  Target,
} from "./job.ts";
import { observingScenario } from "./observing.ts";
import { microsEach, perServerSecond, short, type Goal, type Row } from "./report.ts";
import {
  type Outcome,
  type Stage,
  directLoads,
  load,
  medianOf,
  pairsJob,
  phases,
  ratio,
  row,
  using,
} from "./stage.ts";

const relayJob = (
  stage: Stage,
  target: Target,
  of: { connections: number; window: number },
): Job => ({
  kind: "relay",
  target,
  ...phases(stage),
  connections: of.connections,
  window: of.window,
});

export async function relayScenario(stage: Stage): Promise<Outcome> {
  return using(stage.relay(), async (target) => {
    const rows: Row[] = [];
    for (const one of directLoads) {
      const what = `relay, ${one.connections} clients, window ${one.window}`;
      const results: LoadResult[] = [];
      for (let round = 0; round < stage.scale.rounds; round++) {
        results.push(await load(stage, relayJob(stage, target, one), what));
      }
      rows.push(row("relay", what, medianOf(results)));
    }
    return { rows, goals: [] };
  });
}

export async function directScenario(stage: Stage): Promise<Outcome> {
  return using(stage.relay(), (relay) =>
    using(stage.parley(), async (parley) => {
      const rows: Row[] = [];
      const goals: Goal[] = [];
      for (const one of directLoads) {
        const name = `${one.connections} clients, window ${one.window}`;
        const relayed: LoadResult[] = [];
        const kept: LoadResult[] = [];
        for (let round = 0; round < stage.scale.rounds; round++) {
          relayed.push(await load(stage, relayJob(stage, relay, one), `relay, ${name}`));
          kept.push(await load(stage, pairsJob(stage, parley, one), `1:1, ${name}`));
        }
        const [yardstick, ours] = [medianOf(relayed), medianOf(kept)];
        rows.push(row("direct", `relay, ${name}`, yardstick), row("direct", `1:1, ${name}`, ours));
        goals.push({
          what: `1:1, ${name}: messages per CPU-second, of the relay's`,
          value: ratio(perServerSecond(ours.measured), perServerSecond(yardstick.measured)),
          limit: one.goal,
          bound: "at least",
          unit: "",
        });
      }
      return { rows, goals };
    }),
  );
}

export async function latencyScenario(stage: Stage): Promise<Outcome> {
  return using(stage.parley(), async (target) => {
    const rows: Row[] = [];
    const goals: Goal[] = [];
    for (const perSecond of [1000, 5000]) {
      const what = `open loop, ${perSecond}/s`;
      const pace = { perSecond };
      const job: Job = { kind: "pairs", target, ...phases(stage), connections: 200, pace };
      const result = await load(stage, job, what);
      rows.push({ ...row("latency", what, result), note: undefined });
      if (perSecond !== 1000) continue;
      const { delivery } = result.measured;
      const goal = { bound: "at most", unit: "ms" } as const;
      goals.push(
        { what: `delivery p50 at ${perSecond}/s`, value: delivery?.p50Ms, limit: 3, ...goal },
        { what: `delivery p99 at ${perSecond}/s`, value: delivery?.p99Ms, limit: 15, ...goal },
      );
    }
    return { rows, goals };
  });
}

export async function groupScenario(stage: Stage): Promise<Outcome> {
  return using(stage.parley(), async (target) => {
    const direct = await load(stage, pairsJob(stage, target, directLoads[0]), "1:1, for the group");
    const shape = { members: 100, senders: 4, window: 16 };
    const what = `group of ${shape.members}, ${shape.senders} write, window ${shape.window}: copies`;
    const job: Job = { kind: "group", target, ...phases(stage), ...shape };
    const group = await load(stage, job, what);
    return {
      rows: [row("group", "1:1, beside the group", direct), row("group", what, group)],
      goals: [
        {
          what: "CPU of a copy in a group of 100, of a 1:1 message's",
          value: ratio(microsEach(group.measured), microsEach(direct.measured)),
          limit: 0.25,
          bound: "at most",
          unit: "",
        },
      ],
    };
  });
}

async function idle(
  stage: Stage,
  target: Target,
  protocol: IdleJob["protocol"],
): Promise<IdleResult> {
  const { idleConnections: connections, settleMs } = stage.scale;
  const job: Job = { kind: "idle", target, run: stage.nextRun(), protocol, connections, settleMs };
  const result = await stage.generate(job, `${connections} idle connections, ${protocol}`);
  if (result.kind !== "idle") throw new Error("idle: an answer of the wrong kind");
  return result;
}

const kib = (bytes: number | undefined): string =>
  bytes === undefined ? "-" : `${(bytes / 1024).toFixed(1)} KiB`;

const idleRow = (what: string, result: IdleResult): Row => ({
  scenario: "idle",
  what: `${what}, ${result.connections} idle connections`,
  faults: result.faults,
  residentBytes: result.residentBytes,
  note: `${kib(result.residentBytesEach)} resident a connection, ${kib(result.anonymousBytesEach)} of it the process's own`,
});

export async function idleScenario(stage: Stage): Promise<Outcome> {
  const bare = await using(stage.relay(), (target) => idle(stage, target, "relay"));
  const ours = await using(stage.parley(), (target) => idle(stage, target, "parley"));
  const { residentBytesEach: bytes } = ours;
  return {
    rows: [idleRow("relay", bare), idleRow("parley", ours)],
    goals: [
      {
        what: "memory of an idle connection",
        value: bytes === undefined ? undefined : bytes / 1024,
        limit: 16,
        bound: "at most",
        unit: "KiB",
      },
    ],
  };
}

const grownAtMost = { limit: 1.3, bound: "at most", unit: "" } as const;

const cpuGoal = (what: string, { empty, full }: Grown): Goal => ({
  what: `CPU of ${what}, full of empty`,
  value: ratio(microsEach(full), microsEach(empty)),
  ...grownAtMost,
});

const latencyGoal = (what: string, { empty, full }: Grown): Goal => ({
  what: `${what} p50, full of empty`,
  value: ratio(full.delivery?.p50Ms, empty.delivery?.p50Ms),
  ...grownAtMost,
});

export async function growthScenario(stage: Stage): Promise<Outcome> {
  const result = await using(stage.parley(), async (target): Promise<GrowthResult> => {
    const what = `growth to ${stage.scale.growth.messages} messages`;
    const job: Job = {
      kind: "growth",
      target,
      run: stage.nextRun(),
      window: 16,
      rounds: 3,
      ...stage.scale.growth,
    };
    const grown = await stage.generate(job, what);
    if (grown.kind !== "growth") throw new Error(`${what}: an answer of the wrong kind`);
    return grown;
  });
  const size = `${short(result.messages)} messages in ${result.conversations} conversations`;
  const of = (what: string, measured: Measured): Row => ({ scenario: "growth", what, measured });
  const { append, firstSync, laterSync } = result;
  return {
    rows: [
      of("append, empty", append.empty),
      of("append, full", append.full),
      of("first sync, empty", firstSync.empty),
      of("first sync, full", firstSync.full),
      of("later sync, empty", laterSync.empty),
      of("later sync, full", laterSync.full),
      {
        ...of("loading", result.load),
        faults: result.faults,
        residentBytes: result.residentBytes,
        note: `full is ${size}`,
      },
    ],
    goals: [
      cpuGoal("an append", append),
      cpuGoal("a first sync", firstSync),
      cpuGoal("a later sync", laterSync),
      latencyGoal("first sync", firstSync),
      latencyGoal("later sync", laterSync),
    ],
  };
}

export const scenarios = {
  relay: relayScenario,
  direct: directScenario,
  latency: latencyScenario,
  group: groupScenario,
  idle: idleScenario,
  growth: growthScenario,
  observing: observingScenario,
} satisfies Record<string, (stage: Stage) => Promise<Outcome>>;

export type ScenarioName = keyof typeof scenarios;

export const isScenario = (name: string): name is ScenarioName => Object.hasOwn(scenarios, name);
