/** Several threads that share a spec's seeds: one thread runs one world at a time. */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";

export interface Asked {
  readonly seed: number;
  readonly steps: number;
}

export interface Told {
  readonly seed: number;
  /** Undefined: nothing did. */
  readonly broke: string | undefined;
}

/** More gain less: each has to load all the services first. */
const threadsMax = 4;

export class Threads {
  readonly #workers: readonly Worker[];

  constructor() {
    const count = Math.min(threadsMax, availableParallelism());
    const begin = new URL("thread.js", import.meta.url);
    const { href: workerData } = new URL("./thread.ts", import.meta.url);
    this.#workers = Array.from({ length: count }, () => new Worker(begin, { workerData }));
  }

  /** Runs each seed on whichever thread is free. Answers with those that broke a promise. */
  async run(asked: readonly Asked[]): Promise<Told[]> {
    const waiting = [...asked];
    const broken: Told[] = [];
    const share = async (worker: Worker): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const told = await ask(worker, next);
        if (told.broke !== undefined) broken.push(told);
      }
    };
    await Promise.all(this.#workers.map(share));
    return broken;
  }

  async end(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}

function ask(worker: Worker, asked: Asked): Promise<Told> {
  return new Promise((resolve, reject) => {
    const hear = (told: Told): void => {
      worker.off("error", reject);
      resolve(told);
    };
    worker.once("message", hear);
    worker.once("error", reject);
    worker.postMessage(asked);
  });
}
