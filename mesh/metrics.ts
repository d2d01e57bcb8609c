/** What a process counts of itself, for operators: a service is given this as it is given its log. Nothing is ever counted by user or conversation. */

export interface Count {
  add(more?: number): void;
}

/** How values are spread, in the unit that the metric's name ends with. */
export interface Spread {
  observe(value: number): void;
}

/** Their values are few and fixed. */
export type Labels = Readonly<Record<string, string>>;

/**
 * `name` is what the rest of the world sees: parley_gateway_sends_total. Cheap once it is had. Those of one name differ in their labels; asked for again
 * with the same ones, a count or spread is the one that there is.
 */
export interface Metrics {
  count(name: string, what: string, labels?: Labels): Count;
  /** A number that comes and goes by what is added: less than nothing, where something went. */
  tally(name: string, what: string, labels?: Labels): Count;
  /** A number that comes and goes: `read` is called when somebody looks. Those of one name are added up. For what lives as long as the process. */
  level(name: string, what: string, read: () => number): void;
  /** `bounds`: the upper bounds of the buckets, rising. */
  spread(name: string, what: string, bounds: readonly number[], labels?: Labels): Spread;
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
  tally: () => nothing,
  level: () => undefined,
  spread: () => nothing,
};
