/** While a world runs, the platform's own time and chance are out of reach: what asks for them fails the run, but for timers of libraries. */
import { currentHost } from "./host.ts";
import { begin, isOfWorld } from "./turns.ts";

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

/** Of the world what must not be asked for, of all others the platform's own. */
function guarded<A extends unknown[], R>(what: string, platform: (...args: A) => R) {
  return (...args: A): R => (isOfWorld() ? escaped(what) : platform(...args));
}

const library = /node_modules[/\\]@connectrpc[/\\]/;

/** Of a call's deadline Connect's library says how long it is off; the services have a clock for what they do. */
function now(): number {
  if (!isOfWorld()) return kept.now();
  const [, , caller = ""] = new Error().stack?.split("\n").slice(0, 3) ?? [];
  const host = currentHost();
  return host !== undefined && library.test(caller) ? host.clock.now() : escaped("Date.now");
}

/** As ever where it is told what time is meant. */
const TimelessDate = new Proxy(Date, {
  construct(target, args: []) {
    if (args.length === 0 && isOfWorld()) return escaped("new Date()");
    return new target(...args);
  },
  apply: () => escaped("Date()"),
});

/** The library ws has a timer for sockets that do not close: it is the host's. */
function timeout(callback: (...args: unknown[]) => void, ms: number, ...args: unknown[]): unknown {
  if (!isOfWorld()) return kept.setTimeout(callback, ms, ...args);
  const host = currentHost();
  if (host === undefined) return escaped("setTimeout");
  return new SimTimer(host.clock.after(ms, () => callback(...args)));
}

function clear(timer: NodeJS.Timeout | SimTimer | undefined): void {
  if (timer instanceof SimTimer) timer.cancel();
  else kept.clearTimeout(timer);
}

export async function withoutEscapes<T>(run: () => Promise<T>): Promise<T> {
  Object.assign(Date, { now });
  Object.assign(Math, { random: guarded("Math.random", kept.random) });
  Object.assign(globalThis, {
    Date: TimelessDate,
    setTimeout: timeout,
    clearTimeout: clear,
    setInterval: guarded("setInterval", kept.setInterval),
    setImmediate: guarded("setImmediate", kept.setImmediate),
  });
  try {
    return await begin(run);
  } finally {
    Object.assign(kept.Date, { now: kept.now });
    Object.assign(Math, { random: kept.random });
    const { Date, setTimeout, clearTimeout, setInterval, setImmediate } = kept;
    Object.assign(globalThis, { Date, setTimeout, clearTimeout, setInterval, setImmediate });
  }
}
