/**
 * The turns of the event loop that a world takes: many at a time, each with all promises and ticks that it set off done before the next. What
 * others left running in this process, such as a library's timer, has its turn in between, and is known not to be of a world.
 */

/** The harness's own, taken before anything replaces it. */
const realImmediate = globalThis.setImmediate;

/** In one round of the event loop, since a round costs more than most turns. */
const atOnce = 64;

const done = Promise.resolve();
let ofWorld = false;

/** Whether what runs now is a world's. */
export const isOfWorld = (): boolean => ofWorld;

/** Begins what is a world's from its first instant. */
export function begin<T>(run: () => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    realImmediate(() => {
      ofWorld = true;
      void done.then(run).then(resolve, reject);
    });
    realImmediate(leave);
  });
}

/** Takes turns, the first at once, until `turn` says that there is nothing more to do. */
export function takeTurns(turn: () => "more" | "over"): Promise<void> {
  return new Promise((resolve, reject) => {
    let over = false;
    const take = (): void => {
      if (over) return;
      try {
        over = turn() === "over";
        if (over) resolve();
      } catch (error) {
        over = true;
        reject(error);
      }
    };
    const round = (): void => {
      if (over) return;
      realImmediate(enter);
      // As a promise's reaction: what a turn sets off runs in the order in which it would behind an `await`.
      for (let n = 0; n < atOnce; n += 1) realImmediate(() => void done.then(take));
      realImmediate(() => {
        leave();
        round();
      });
    };
    take();
    round();
  });
}

function enter(): void {
  ofWorld = true;
}

function leave(): void {
  ofWorld = false;
}
