/** Keeps a long-lived stream to another service up: runs it again, with jittered backoff, until it is closed. */
import { ConnectError } from "@connectrpc/connect";
import { sleep } from "./clock.ts";
import type { Surroundings } from "./lifecycle.ts";
import type { Metrics } from "./metrics.ts";

const leastBackoffMs = 50;
const mostBackoffMs = 1_000;
/** A run that lived that long was a good one: the next failure begins with the least backoff again. */
const healthyMs = 5_000;

export interface KeptStream {
  /** Whether a run is under way. False while it waits before the next try, and once closed. */
  readonly up: boolean;
  /** Aborts the present run, waits for its end and starts no other. */
  close(): Promise<void>;
}

/** What a process counts of its streams of one name. */
function meterOf(metrics: Metrics, stream: string) {
  return {
    up: metrics.tally("parley_streams", "Streams to other services that are up.", { stream }),
    failures: metrics.count(
      "parley_stream_failures_total",
      "Streams to other services that broke, or could not be had; they are tried again.",
      { stream },
    ),
  };
}

/**
 * Calls `run` until closed. `name` is that of all streams of its kind. The signal is the run's own: it fires on close, and also when the run returns or throws, so that a
 * call made with it ends on both sides however the run came to its end. A run must end soon after its signal fires.
 */
export function keepStream(
  { clock, random, log, metrics }: Pick<Surroundings, "clock" | "random" | "log" | "metrics">,
  name: string,
  run: (signal: AbortSignal) => Promise<void>,
): KeptStream {
  const closing = new AbortController();
  const meter = meterOf(metrics, name);
  let up = false;

  async function once(): Promise<unknown> {
    const ending = new AbortController();
    const end = (): void => ending.abort(closing.signal.reason);
    closing.signal.addEventListener("abort", end);
    up = true;
    meter.up.add();
    try {
      await run(ending.signal);
      return undefined;
    } catch (error) {
      return error;
    } finally {
      up = false;
      meter.up.add(-1);
      closing.signal.removeEventListener("abort", end);
      ending.abort();
    }
  }

  async function keep(): Promise<void> {
    let backoffMs = leastBackoffMs;
    while (!closing.signal.aborted) {
      const beganMs = clock.monotonic();
      const error = await once();
      if (closing.signal.aborted) return;
      meter.failures.add();
      if (clock.monotonic() - beganMs >= healthyMs) backoffMs = leastBackoffMs;
      const waitMs = Math.ceil(backoffMs * (0.5 + random.unit() / 2));
      backoffMs = Math.min(backoffMs * 2, mostBackoffMs);
      const reason = error === undefined ? "it ended" : ConnectError.from(error).message;
      log.warn({ stream: name, retryInMs: waitMs, reason }, "a stream is down, trying again");
      await sleep(clock, waitMs, closing.signal).catch(() => undefined);
    }
  }

  const kept = keep();
  return {
    get up() {
      return up;
    },
    close() {
      closing.abort();
      return kept;
    },
  };
}
