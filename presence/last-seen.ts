/** Carries last-seen times to storage: a batch a while, again until they are kept. */
import { ConnectError } from "@connectrpc/connect";
import type { Cancel } from "../mesh/clock.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { SeenTimes } from "./ports.ts";
import type { Roster } from "./roster.ts";

/** How long times gather before the first is carried. */
const gatherMs = 200;
const leastBackoffMs = 200;
const mostBackoffMs = 5_000;
const batchMax = 1_000;
const putTimeoutMs = 5_000;
/** What closing may take at most. */
const closingMs = 3_000;

export class LastSeenKeeper {
  readonly #surroundings: Pick<Surroundings, "clock" | "random" | "log">;
  readonly #roster: Roster;
  readonly #storage: Pick<SeenTimes, "putLastSeen">;
  #timer: Cancel | undefined;
  #putting: Promise<void> | undefined;
  #backoffMs = leastBackoffMs;
  #closed = false;

  constructor(
    surroundings: Pick<Surroundings, "clock" | "random" | "log">,
    roster: Roster,
    storage: Pick<SeenTimes, "putLastSeen">,
  ) {
    this.#surroundings = surroundings;
    this.#roster = roster;
    this.#storage = storage;
  }

  /** There may be something to keep. */
  wake(): void {
    if (this.#roster.size.unsaved > 0) this.#arm(gatherMs);
  }

  /** Tries once to keep what is left. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.();
    await this.#putting;
    const { clock, log } = this.#surroundings;
    const deadlineMs = clock.monotonic() + closingMs;
    try {
      while (this.#roster.size.unsaved > 0 && clock.monotonic() < deadlineMs)
        await this.#put(deadlineMs - clock.monotonic());
    } catch (error) {
      const reason = ConnectError.from(error).message;
      log.warn({ reason, users: this.#roster.size.unsaved }, "last-seen times are lost");
    }
  }

  #arm(waitMs: number): void {
    if (this.#closed || this.#timer !== undefined || this.#putting !== undefined) return;
    this.#timer = this.#surroundings.clock.after(waitMs, () => {
      this.#timer = undefined;
      this.#putting = this.#putAll();
    });
  }

  async #putAll(): Promise<void> {
    const { random, log } = this.#surroundings;
    let waitMs = gatherMs;
    try {
      while (this.#roster.size.unsaved > 0 && !this.#closed) await this.#put(putTimeoutMs);
      this.#backoffMs = leastBackoffMs;
    } catch (error) {
      waitMs = Math.ceil(this.#backoffMs * (0.5 + random.unit() / 2));
      this.#backoffMs = Math.min(this.#backoffMs * 2, mostBackoffMs);
      const reason = ConnectError.from(error).message;
      log.warn({ reason, retryInMs: waitMs }, "last-seen times are not kept yet");
    }
    this.#putting = undefined;
    if (this.#roster.size.unsaved > 0) this.#arm(waitMs);
  }

  async #put(timeoutMs: number): Promise<void> {
    const some = this.#roster.unsaved(batchMax);
    const seen = some.map(([userId, timeMs]) => ({ userId, timeMs: BigInt(timeMs) }));
    await this.#storage.putLastSeen({ seen }, { timeoutMs });
    this.#roster.saved(some);
  }
}
