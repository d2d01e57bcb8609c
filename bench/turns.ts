/** The load of people talking in pairs, on several servers in turn: what another server, or the machine, does at the time is then the same for all. */
import { CpuMeter, residentBytes } from "./cpu.ts";
import type { LoadResult, Target, TurnsJob, TurnsResult } from "./job.ts";
import { ownSeconds, waitUntil } from "./meter.ts";
import { openPairs, type OpenPairs } from "./pairs.ts";
import { setTimeout as sleep } from "node:timers/promises";

const drainMs = 30_000;

/** One server with its connections, which all stay. */
class Player {
  readonly #pairs: OpenPairs;
  readonly #target: Target;
  readonly #cpu: CpuMeter | undefined;
  #before = { count: 0, serverSeconds: 0 };
  #seconds = 0;
  #generatorSeconds = 0;

  constructor(pairs: OpenPairs, target: Target) {
    this.#pairs = pairs;
    this.#target = target;
    this.#cpu = target.pid === undefined ? undefined : new CpuMeter(target.pid);
  }

  async turn(ms: number): Promise<void> {
    const { load } = this.#pairs;
    const [beginMs, begin] = [performance.now(), ownSeconds()];
    load.start();
    await sleep(ms);
    load.stop();
    if (!(await waitUntil(() => load.settled(), drainMs)))
      throw new Error(`a turn's messages did not arrive within ${drainMs} ms`);
    this.#seconds += (performance.now() - beginMs) / 1000;
    this.#generatorSeconds += ownSeconds() - begin;
  }

  /** From now on it counts. */
  begin(): void {
    this.#before = {
      count: this.#pairs.meter.count,
      serverSeconds: this.#cpu?.seconds() ?? 0,
    };
    this.#seconds = 0;
    this.#generatorSeconds = 0;
  }

  /** All that the server's processor did since it began to count, between its turns too: what is put off is not forgotten. */
  end(): LoadResult {
    const { load, meter, faults, connections } = this.#pairs;
    const serverSeconds = this.#cpu?.seconds();
    load.judge();
    for (const connection of connections) connection.close();
    const measured = {
      count: meter.count - this.#before.count,
      seconds: this.#seconds,
      serverSeconds:
        serverSeconds === undefined ? undefined : serverSeconds - this.#before.serverSeconds,
      generatorSeconds: this.#generatorSeconds,
      ack: undefined,
      delivery: undefined,
    };
    const { pid } = this.#target;
    const resident = pid === undefined ? undefined : residentBytes(pid);
    return { kind: "load", measured, faults, residentBytes: resident };
  }
}

export async function runTurns(
  job: TurnsJob,
  progress: (text: string) => void,
): Promise<TurnsResult> {
  const players: Player[] = [];
  for (const [at, target] of job.targets.entries()) {
    const run = `${job.run}${at}`;
    players.push(new Player(await openPairs({ ...job, target, run }, job.window), target));
  }
  for (const player of players) await player.turn(job.warmMs);
  for (const player of players) player.begin();
  const backwards = players.toReversed();
  for (let block = 0; block < job.blocks; block++) {
    progress(`turns, ${block} of ${job.blocks} times there and back`);
    for (const player of [...players, ...backwards]) await player.turn(job.turnMs);
  }
  return { kind: "turns", results: players.map((player) => player.end()) };
}
