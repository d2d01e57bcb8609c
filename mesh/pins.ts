/** The shards that an operator moved to this process. It announces them, and whoever places shards leaves them here, until it stops or drains. */
import { Code, ConnectError } from "@connectrpc/connect";
import { overloaded } from "./errors.ts";

/** An announcement is read by every process whenever one of them changes. */
const pinsMax = 256;

/** Tells the other processes; rejects where they were not told. */
export type AnnouncePins = (shards: readonly number[]) => Promise<void>;

export class Pins {
  #shards: readonly number[] = [];
  #announce: AnnouncePins | undefined;
  #last: Promise<void> = Promise.resolve();

  /** In order. */
  get shards(): readonly number[] {
    return this.#shards;
  }

  /** Where there is nobody to tell, nothing can be pinned. */
  announcedBy(announce: AnnouncePins): void {
    this.#announce = announce;
  }

  /** Resolves once the others are told, as far as the registry knows. */
  set(shard: number, pinned: boolean): Promise<void> {
    const done = this.#last.then(() => this.#set(shard, pinned));
    this.#last = done.catch(() => undefined);
    return done;
  }

  async #set(shard: number, pinned: boolean): Promise<void> {
    if (this.#announce === undefined)
      throw new ConnectError(
        "this process is the only one: its shards have nowhere to go",
        Code.FailedPrecondition,
      );
    const others = this.#shards.filter((one) => one !== shard);
    const shards = pinned ? [...others, shard].sort((left, right) => left - right) : others;
    if (shards.length === this.#shards.length && pinned === this.#shards.includes(shard)) return;
    if (shards.length > pinsMax)
      throw overloaded(`${pinsMax} shards are pinned to this process already`);
    await this.#announce(shards);
    this.#shards = shards;
  }
}
