/** Many connections that say nothing: how much memory the server needs for one. */
import { setTimeout as sleep } from "node:timers/promises";
import { noFaults, type Faults } from "./check.ts";
import { newShared, ParleyConnection } from "./connection.ts";
import { anonymousBytes, residentBytes } from "./cpu.ts";
import type { IdleJob, IdleResult } from "./job.ts";
import { Meter, openAll } from "./meter.ts";
import { openRelayEnds } from "./relayload.ts";
import { Turn } from "./turn.ts";

const warmConnections = 100;
const atOnce = 50;

async function openMany(job: IdleJob, count: number, name: string, faults: Faults) {
  if (job.protocol === "relay")
    return openRelayEnds(job.target, count, new Meter(undefined), faults);
  const shared = newShared(job.target, new Turn(), faults);
  return openAll(count, atOnce, (number) =>
    ParleyConnection.open(shared, number, `${name}${job.run}-${number}`),
  );
}

export async function runIdle(job: IdleJob, progress: (text: string) => void): Promise<IdleResult> {
  const faults = noFaults();
  const { pid } = job.target;
  const settled = async (): Promise<{ resident?: number; anonymous?: number }> => {
    if (pid === undefined) return {};
    // The least of some readings: the collector gives back what opening needed for a moment.
    const all: { resident: number; anonymous: number }[] = [];
    for (let i = 0; i < 5; i++) {
      await sleep(job.settleMs / 5);
      const resident = residentBytes(pid);
      const anonymous = anonymousBytes(pid);
      if (resident !== undefined && anonymous !== undefined) all.push({ resident, anonymous });
    }
    return all.sort((one, other) => one.resident - other.resident)[0] ?? {};
  };
  // What a first few connections cost once (compiled code, pools) is not the cost of one more.
  const warm = await openMany(job, warmConnections, "w", faults);
  await sleep(500);
  for (const connection of warm) connection.close();
  const before = await settled();
  progress("opening connections");
  const connections = await openMany(job, job.connections, "i", faults);
  progress("settling");
  const after = await settled();
  for (const connection of connections) connection.close();
  const each = (one: number | undefined, other: number | undefined): number | undefined =>
    one === undefined || other === undefined ? undefined : (one - other) / job.connections;
  return {
    kind: "idle",
    connections: job.connections,
    residentBytesEach: each(after.resident, before.resident),
    anonymousBytesEach: each(after.anonymous, before.anonymous),
    residentBytes: after.resident,
    faults,
  };
}
