/** Keeps a process announced in the directory: one life after the other, each under a lease of its own, until it leaves. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import { sleep } from "./clock.ts";
import type { Clock } from "./clock.ts";
import type { Directory, Instance, Membership } from "./directory.ts";
import type { Identity } from "./identity.ts";
import type { Pins } from "./pins.ts";
import type { Admission } from "./process-admission.ts";
import type { Random } from "./random.ts";

/** What stays the same over the lives of a process. */
export type Announced = Omit<Instance, "id" | "draining" | "pinned">;

export interface StandingParts {
  readonly directory: Directory;
  readonly identity: Identity;
  readonly admission: Pick<Admission, "ask">;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** They stay over its lives. */
  readonly pins?: Pins | undefined;
}

const leastBackoffMs = 100;
const mostBackoffMs = 2_000;
/** Nobody may be there yet who lets it in or refuses it, as when all of a cluster start at once: it asks again until somebody has. */
const askAgainMs = 5_000;
/** Lines of the log about one trouble are that far apart. */
const logMs = 30_000;

export class Standing {
  readonly #parts: StandingParts;
  readonly #announced: Announced;
  readonly #closing = new AbortController();
  readonly #kept: Promise<void>;
  #membership: Membership | undefined;
  #draining = false;
  #reason = "it is not announced to the other processes yet";
  #toldMs = -logMs;

  constructor(parts: StandingParts, announced: Announced) {
    this.#parts = parts;
    this.#announced = announced;
    parts.pins?.announcedBy((pinned) => this.#pin(pinned));
    this.#kept = this.#keep();
  }

  /** Why the others do not know of it. Once they do, etcd may be away: they go on with what they know. */
  problems(): string[] {
    return this.#membership === undefined ? [this.#reason] : [];
  }

  /** Since when its lease is not renewed, on the monotonic clock; undefined while it has none. */
  get renewedMs(): number | undefined {
    return this.#membership?.renewedMs;
  }

  /** Nothing new is placed on it from when the others hear of it; that they do is not certain while the directory is away. */
  async drain(): Promise<void> {
    this.#draining = true;
    await this.#membership?.update({ draining: true });
  }

  async #pin(pinned: readonly number[]): Promise<void> {
    if (this.#membership === undefined)
      throw new ConnectError(
        `no shard can be moved here: ${this.#reason}`,
        Code.FailedPrecondition,
      );
    await this.#membership.update({ pinned });
  }

  /** Ends the lease, or tries to; another is not begun. */
  async leave(): Promise<void> {
    this.#closing.abort();
    await this.#kept;
    const membership = this.#membership;
    this.#membership = undefined;
    this.#reason = "it has left the other processes";
    await membership?.leave();
  }

  async #keep(): Promise<void> {
    const { signal } = this.#closing;
    let backoffMs = leastBackoffMs;
    while (!signal.aborted) {
      const { clock, random, identity } = this.#parts;
      const { id } = identity;
      const joined = (await this.#admitted()) && (await this.#join(id));
      if (joined) {
        backoffMs = leastBackoffMs;
        const life = new AbortController();
        const stays = this.#askAgain(id, AbortSignal.any([signal, life.signal]));
        await this.#overOf(id);
        life.abort();
        if (!signal.aborted) await this.#renounce(id);
        if (await stays) continue;
        backoffMs = mostBackoffMs;
      }
      if (!signal.aborted) {
        const waitMs = backoffMs * (0.5 + random.unit() / 2);
        backoffMs = Math.min(backoffMs * 2, mostBackoffMs);
        await sleep(clock, waitMs, signal).catch(() => undefined);
      }
    }
  }

  /** Resolves when the life is over, or the process leaves. */
  #overOf(id: string): Promise<void> {
    const { identity } = this.#parts;
    const { signal } = this.#closing;
    return new Promise((resolve) => {
      const end = (): void => {
        unwatch();
        signal.removeEventListener("abort", end);
        resolve();
      };
      const unwatch = identity.watch(end);
      signal.addEventListener("abort", end, { once: true });
      if (identity.id !== id || signal.aborted) end();
    });
  }

  /** Whether nobody refuses it, as far as is known now. */
  async #admitted(): Promise<boolean> {
    const { signal } = this.#closing;
    const answer = await this.#parts.admission.ask(this.#announced.address, signal);
    if (answer.t === "refused") this.#tell(answer.reason);
    return answer.t !== "refused" && !signal.aborted;
  }

  /** Whether it stays; else its life is over. */
  async #askAgain(id: string, life: AbortSignal): Promise<boolean> {
    const { clock, identity, admission } = this.#parts;
    for (;;) {
      await sleep(clock, askAgainMs, life).catch(() => undefined);
      if (life.aborted) return true;
      const answer = await admission.ask(this.#announced.address, life);
      if (life.aborted) return true;
      if (answer.t === "unknown") continue;
      if (answer.t === "let in") return true;
      this.#tell(answer.reason);
      identity.end(id);
      return false;
    }
  }

  /** Whether it is announced now. */
  async #join(id: string): Promise<boolean> {
    const { directory, identity, log, pins } = this.#parts;
    const shards = pins?.shards ?? [];
    const pinned = shards.length === 0 ? {} : { pinned: shards };
    const instance: Instance = { ...this.#announced, id, draining: this.#draining, ...pinned };
    try {
      this.#membership = await directory.join(instance, () => {
        log.warn({ id }, "its lease was lost: it begins another life under a new id");
        identity.end(id);
      });
    } catch (error) {
      this.#refused(ConnectError.from(error));
      return false;
    }
    this.#toldMs = -logMs;
    log.info({ id, address: instance.address }, "it is announced to the other processes");
    // It may have begun to drain while it was on its way.
    if (this.#draining && !instance.draining) await this.drain().catch(() => undefined);
    return true;
  }

  #refused(error: ConnectError): void {
    const { service, name } = this.#announced;
    this.#tell(
      error.code === Code.AlreadyExists
        ? `another ${service} is called ${name}: it waits until that one is gone`
        : `it is not announced to the other processes: ${error.rawMessage}`,
    );
  }

  #tell(reason: string): void {
    const { clock, log } = this.#parts;
    this.#reason = reason;
    if (clock.monotonic() - this.#toldMs < logMs) return;
    this.#toldMs = clock.monotonic();
    log.warn(reason);
  }

  /** The life is over, whoever ended it: the others are to know before the next begins. */
  async #renounce(id: string): Promise<void> {
    const membership = this.#membership;
    this.#membership = undefined;
    this.#reason = "its life is over for the other processes, and the next is not announced yet";
    await membership?.leave().catch((error: unknown) => {
      const reason = ConnectError.from(error).rawMessage;
      this.#parts.log.warn({ id, reason }, "a lease was left to end by itself");
    });
  }
}
