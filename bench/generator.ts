/** The load generator's process: takes one job from its parent, does it, answers with the result. Started by processes.ts. */
import { isJob, type GeneratorMessage, type Job, type JobResult } from "./job.ts";
import { runGroup } from "./group.ts";
import { runGrowth } from "./growth.ts";
import { runIdle } from "./idle.ts";
import { runPairs } from "./pairs.ts";
import { runRelay } from "./relayload.ts";

const say = (message: GeneratorMessage): Promise<void> =>
  new Promise((resolve) => process.send?.(message, () => resolve()));

const progress = (text: string): void => void say({ kind: "progress", text });

function run(job: Job): Promise<JobResult> {
  switch (job.kind) {
    case "relay":
      return runRelay(job, progress);
    case "pairs":
      return runPairs(job, progress);
    case "group":
      return runGroup(job, progress);
    case "idle":
      return runIdle(job, progress);
    case "growth":
      return runGrowth(job, progress);
  }
}

process.on("disconnect", () => process.exit(1));
process.once("message", (job: unknown) => {
  if (!isJob(job)) throw new Error("that is no job");
  run(job)
    .then((result) => say({ kind: "result", result }))
    .catch((error: unknown) =>
      say({ kind: "error", message: error instanceof Error ? error.message : String(error) }),
    )
    .finally(() => process.exit(0));
});
