/** One of the threads of threads.ts: runs the world of each seed that it is asked for, and tells what broke. */
import { parentPort } from "node:worker_threads";
import { reportOf } from "../support/checker.ts";
import { run } from "./run.ts";
import { scenarioOf } from "./scenario.ts";
import type { Asked, Told } from "./threads.ts";

async function told({ seed, steps }: Asked): Promise<Told> {
  try {
    const { findings } = await run({ scenario: scenarioOf(seed, { steps }) });
    return { seed, broke: findings.length > 0 ? reportOf(findings) : undefined };
  } catch (error) {
    return { seed, broke: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

parentPort?.on("message", (asked: Asked) => {
  void told(asked).then((answer) => parentPort?.postMessage(answer));
});
