/**
 * Tells devices to sync: at once where they are few, spread over time where they are many, as after a change of the session ring. Nothing is missed
 * for it: a device that is told later finds the more.
 */
import type { Cancel, Clock } from "../mesh/clock.ts";
import type { Random } from "../mesh/random.ts";
import type { Recipient } from "./connections.ts";
import { SharedPush } from "./pushes.ts";

const slotMs = 20;
/** About so many in a slot: 1 ms for each. */
const slotDevices = 20;
/** The last one is told after 10 s. */
const slotsMax = 500;

export class Resyncs {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #push = new SharedPush({ case: "resync", value: true });
  /** Who waits to be told: once, however often it is to be. */
  readonly #waiting = new Set<Recipient>();
  /** Used round and round. Those who left meanwhile are in them, but do not wait. */
  readonly #slots: Recipient[][] = Array.from({ length: slotsMax }, () => []);
  #now = 0;
  /** In this slot. */
  #told = 0;
  #cancel: Cancel | undefined;

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  add(recipient: Recipient): void {
    if (this.#waiting.has(recipient)) return;
    const slots = Math.min((this.#waiting.size + this.#told) / slotDevices, slotsMax);
    // Behind about half of those who wait: so the slots fill evenly, and who is told when is by chance.
    const slot = Math.floor(slots * (0.5 + this.#random.unit() / 2));
    this.#arm();
    if (slot === 0) return this.#tell(recipient);
    this.#waiting.add(recipient);
    this.#slots[(this.#now + slot) % slotsMax]?.push(recipient);
  }

  /** Its device is gone, and syncs when it comes back. */
  forget(recipient: Recipient): void {
    this.#waiting.delete(recipient);
  }

  close(): void {
    this.#cancel?.();
  }

  #tell(recipient: Recipient): void {
    this.#told += 1;
    recipient.push(this.#push, this.#clock.monotonic());
  }

  #arm(): void {
    this.#cancel ??= this.#clock.after(slotMs, () => this.#next());
  }

  #next(): void {
    this.#cancel = undefined;
    this.#now = (this.#now + 1) % slotsMax;
    this.#told = 0;
    const due = this.#slots[this.#now]?.splice(0) ?? [];
    for (const recipient of due) if (this.#waiting.delete(recipient)) this.#tell(recipient);
    if (this.#told > 0 || this.#waiting.size > 0) this.#arm();
  }
}
