/** Keeps a long-lived stream to another service up: runs it again, with jittered backoff, until it is closed. */
import { ConnectError } from "@connectrpc/connect";
import { sleep } from "./clock.ts";
import type { Surroundings } from "./lifecycle.ts";

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

/**
 * Calls `run` until closed. The signal is the run's own: it fires on close, and also when the run returns or throws, so that a
 * call made with it ends on both sides however the run came to its end. A run must end soon after its signal fires.
 */
export function keepStream(
  { clock, random, log }: Pick<Surroundings, "clock" | "random" | "log">,
  name: string,
  run: (signal: AbortSignal) => Promise<void>,
): KeptStream {
  const closing = new AbortController();
  let up = false;

  async function once(): Promise<unknown> {
    const ending = new AbortController();
    const end = (): void => ending.abort(closing.signal.reason);
    closing.signal.addEventListener("abort", end);
    up = true;
    try {
      await run(ending.signal);
      return undefined;
    } catch (error) {
      return error;
    } finally {
      up = false;
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
