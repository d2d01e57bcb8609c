/** A machine with one process on it, or a phone: it lives, stands still or is dead, and its clock is its own. */
import type { Cancel, Clock } from "../../mesh/clock.ts";
import type { Random } from "../../mesh/random.ts";
import type { Timeline } from "./timeline.ts";

/** Where the world's time begins, in milliseconds since 1970-01-01 UTC. */
const epochMs = 1_790_000_000_000;

export interface HostClock {
  /** How far its wall clock is off. */
  readonly offsetMs: number;
  /** 0.01: its seconds are that much shorter. */
  readonly drift: number;
  /** The longest that a turn of its event loop takes: what comes meanwhile is one batch. */
  readonly turnMs: number;
}

export type HostChange = "killed" | "vanished" | "paused" | "woken";

export class Host {
  readonly name: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly #timeline: Timeline;
  #state: "up" | "paused" | "dead" = "up";
  /** What came while it stood still, in order. */
  #backlog: (() => void)[] = [];
  #turnEndsMs = 0;
  readonly #watchers = new Set<(state: HostChange) => void>();

  constructor(timeline: Timeline, name: string, random: Random, settings: HostClock) {
    this.#timeline = timeline;
    this.name = name;
    this.random = random;
    this.clock = this.#makeClock(settings);
  }

  get dead(): boolean {
    return this.#state === "dead";
  }

  get paused(): boolean {
    return this.#state === "paused";
  }

  /** Something comes from outside: it is seen to now, or on waking, or never. */
  hears(run: () => void): void {
    if (this.#state === "dead") return;
    if (this.#state === "paused") this.#backlog.push(run);
    else {
      running.host = this;
      run();
    }
  }

  /** Nothing of it runs ever again. Where the machine goes with the process, nobody is told. */
  die(how: "killed" | "vanished"): void {
    if (this.#state === "dead") return;
    this.#state = "dead";
    this.#backlog = [];
    for (const tell of this.#watchers) tell(how);
  }

  pause(): void {
    if (this.#state !== "up") return;
    this.#state = "paused";
    for (const tell of this.#watchers) tell("paused");
  }

  /** What came meanwhile is seen to, a turn each. */
  wake(): void {
    if (this.#state !== "paused") return;
    for (const tell of this.#watchers) tell("woken");
    this.#catchUp();
  }

  watch(changed: (state: HostChange) => void): void {
    this.#watchers.add(changed);
  }

  #catchUp(): void {
    if (this.#state !== "paused") return;
    const next = this.#backlog.shift();
    if (next === undefined) {
      this.#state = "up";
      return;
    }
    running.host = this;
    next();
    this.#timeline.in(0, () => this.#catchUp());
  }

  #makeClock({ offsetMs, drift, turnMs }: HostClock): Clock {
    const timeline = this.#timeline;
    const bornMs = timeline.nowMs;
    const monotonic = (): number => (timeline.nowMs - bornMs) * (1 + drift) + 1_000;
    return {
      // Whole milliseconds, as the system's.
      now: () => Math.floor(epochMs + offsetMs + timeline.nowMs * (1 + drift)),
      monotonic,
      after: (ms, run): Cancel => {
        let over = false;
        const waitMs = Math.max(ms, 0) / (1 + drift);
        const cancel = timeline.in(waitMs, () =>
          this.hears(() => {
            if (!over) run();
          }),
        );
        return () => {
          over = true;
          cancel();
        };
      },
      afterTurn: (run) => {
        if (this.#turnEndsMs <= timeline.nowMs)
          this.#turnEndsMs = timeline.nowMs + this.random.unit() * turnMs;
        timeline.at(this.#turnEndsMs, () => this.hears(run));
      },
    };
  }
}

const running: { host: Host | undefined } = { host: undefined };

/** Whose code runs. For what asks the platform for a timer and cannot be given a clock (the library ws). */
export function currentHost(): Host | undefined {
  return running.host;
}
