/** Asks storage again where trying again makes sense, a bounded number of times. */
import { ConnectError } from "@connectrpc/connect";
import { sleep } from "../mesh/clock.ts";
import { retryAfterMs } from "../mesh/errors.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";

const leastBackoffMs = 100;
const mostBackoffMs = 5_000;

/** The call's answer, or the error of the last of `tries`, or the first one that is final, or the signal's reason. */
export async function retried<T>(
  { clock, random }: Pick<Surroundings, "clock" | "random">,
  tries: number,
  signal: AbortSignal,
  call: () => Promise<T>,
): Promise<T> {
  let backoffMs = leastBackoffMs;
  for (let left = tries - 1; ; left -= 1) {
    try {
      return await call();
    } catch (error) {
      if (left === 0 || signal.aborted || retryAfterMs(ConnectError.from(error)) === 0) throw error;
    }
    await sleep(clock, Math.ceil(backoffMs * (0.5 + random.unit() / 2)), signal);
    backoffMs = Math.min(backoffMs * 2, mostBackoffMs);
  }
}
