/** Whether an incarnation is revoked, asked once for all who wait. */
import type { Clock } from "../../mesh/clock.ts";

interface Waiting {
  resolve(revoked: boolean): void;
  reject(error: unknown): void;
}

export class Revocations {
  readonly #read: (incarnation: string) => Promise<boolean>;
  readonly #waiting = new Map<string, Waiting[]>();
  /** Those that are asked about now. */
  readonly #asked = new Set<string>();
  /** Those that were found to be, which they are for good. */
  readonly #known = new Set<string>();
  readonly #clock: Clock;

  constructor(clock: Clock, read: (incarnation: string) => Promise<boolean>) {
    this.#clock = clock;
    this.#read = read;
  }

  /** Found before: nothing needs to be written any more. */
  known(incarnation: string): boolean {
    return this.#known.has(incarnation);
  }

  /**
   * By a read that begins after this was called: what is under way when somebody comes began too early for him, since his writes may have
   * ended after it was answered by the replicas.
   */
  check(incarnation: string): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const waiting = this.#waiting.get(incarnation);
      if (waiting === undefined) this.#waiting.set(incarnation, [{ resolve, reject }]);
      else waiting.push({ resolve, reject });
      if (waiting === undefined && !this.#asked.has(incarnation))
        this.#clock.afterTurn(() => void this.#ask(incarnation));
    });
  }

  async #ask(incarnation: string): Promise<void> {
    this.#asked.add(incarnation);
    for (
      let waiting = this.#take(incarnation);
      waiting !== undefined;
      waiting = this.#take(incarnation)
    ) {
      try {
        const revoked = await this.#read(incarnation);
        if (revoked) this.#known.add(incarnation);
        for (const { resolve } of waiting) resolve(revoked);
      } catch (error) {
        for (const { reject } of waiting) reject(error);
      }
    }
    this.#asked.delete(incarnation);
  }

  #take(incarnation: string): Waiting[] | undefined {
    const waiting = this.#waiting.get(incarnation);
    this.#waiting.delete(incarnation);
    return waiting;
  }
}
