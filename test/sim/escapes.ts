/** While a world runs, the platform's own time and chance are out of reach: what asks for them fails the run, but for timers of libraries. */
import { currentHost } from "./host.ts";

const kept = {
  Date: globalThis.Date,
  now: Date.now,
  random: Math.random,
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setInterval: globalThis.setInterval,
  setImmediate: globalThis.setImmediate,
};

function escaped(what: string): never {
  throw new Error(`${what} was asked for in a simulated world: time and chance are parameters`);
}

class SimTimer {
  readonly cancel: () => void;

  constructor(cancel: () => void) {
    this.cancel = cancel;
  }

  unref(): this {
    return this;
  }

  ref(): this {
    return this;
  }
}

/** As ever where it is told what time is meant. */
const TimelessDate = new Proxy(Date, {
  construct(target, args: []) {
    return args.length === 0 ? escaped("new Date()") : new target(...args);
  },
  apply: () => escaped("Date()"),
});

export async function withoutEscapes<T>(run: () => Promise<T>): Promise<T> {
  Object.assign(Date, { now: () => escaped("Date.now") });
  Object.assign(Math, { random: () => escaped("Math.random") });
  Object.assign(globalThis, {
    Date: TimelessDate,
    // The library ws has a timer for sockets that do not close: it is the host's.
    setTimeout: (callback: (...args: unknown[]) => void, ms: number, ...args: unknown[]) => {
      const host = currentHost();
      if (host === undefined) return escaped("setTimeout");
      return new SimTimer(host.clock.after(ms, () => callback(...args)));
    },
    clearTimeout: (timer: unknown) => {
      if (timer instanceof SimTimer) timer.cancel();
    },
    setInterval: () => escaped("setInterval"),
    setImmediate: () => escaped("setImmediate"),
  });
  try {
    return await run();
  } finally {
    Object.assign(kept.Date, { now: kept.now });
    Object.assign(Math, { random: kept.random });
    const { Date, setTimeout, clearTimeout, setInterval, setImmediate } = kept;
    Object.assign(globalThis, { Date, setTimeout, clearTimeout, setInterval, setImmediate });
  }
}
