/** What a process counts of itself, for operators: a service is given this as it is given its log. Nothing is ever counted by user or conversation. */

/** Only grows. */
export interface Count {
  add(more?: number): void;
}

/** How values are spread, in the unit that the metric's name ends with. */
export interface Spread {
  observe(value: number): void;
}

/** `name` is what the rest of the world sees: parley_gateway_sends_total. Asked for once, when a service is made; cheap from then on. */
export interface Metrics {
  /** Counts of one name differ in their labels, whose values are few and fixed. */
  count(name: string, what: string, labels?: Readonly<Record<string, string>>): Count;
  /** A number that comes and goes: `read` is called when somebody looks. Those of one name are added up. */
  level(name: string, what: string, read: () => number): void;
  /** `bounds`: the upper bounds of the buckets, rising. */
  spread(name: string, what: string, bounds: readonly number[]): Spread;
}

/** From a millisecond to ten seconds. */
export const secondsBounds = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
];

export const sizeBounds = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048];

const nothing = { add: () => undefined, observe: () => undefined };

/** Where nobody looks. */
export const noMetrics: Metrics = {
  count: () => nothing,
  level: () => undefined,
  spread: () => nothing,
};

/** Whether the process can serve, in all processes. */
export function countReady(metrics: Metrics, problems: () => readonly string[]): void {
  const ready = (): number => (problems().length === 0 ? 1 : 0);
  metrics.level("parley_ready", "1: it can serve; 0: /readyz says why not.", ready);
}
