/** What a process lets go of when it ends: in reverse order, each within a time, whatever happens to the others. */
import type { Logger } from "pino";
import type { Clock } from "./clock.ts";

interface Closer {
  readonly what: string;
  readonly boundMs: number;
  readonly close: () => Promise<unknown>;
}

export class Ending {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #closers: Closer[] = [];

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock;
    this.#log = log;
  }

  /** To be closed before all that was added earlier. */
  add(what: string, boundMs: number, close: () => Promise<unknown>): void {
    this.#closers.push({ what, boundMs, close });
  }

  async closeAll(): Promise<void> {
    for (let next = this.#closers.pop(); next !== undefined; next = this.#closers.pop())
      await this.step(`closing ${next.what}`, next.boundMs, next.close);
  }

  /** Never rejects: what fails or takes longer is named in the log, and left. */
  step(what: string, boundMs: number, run: () => Promise<unknown>): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#clock.after(boundMs, () => {
        this.#log.warn({ step: what, boundMs }, "a step of the end took too long");
        resolve();
      });
      run()
        .catch((error: unknown) =>
          this.#log.warn({ err: error, step: what }, "a step of the end failed"),
        )
        .finally(() => {
          cancel();
          resolve();
        });
    });
  }
}
