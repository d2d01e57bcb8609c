/** Metrics that a test looks at: the number of each series by its name, `name{label="value"}` where it has labels. */
import type { Count, Labels, Metrics, Spread } from "../../mesh/metrics.ts";

export class NotedMetrics implements Metrics {
  readonly #numbers = new Map<string, number>();
  readonly #levels = new Map<string, (() => number)[]>();

  /** A count's sum, a level as it is, how many values a spread has. 0: nothing yet; undefined: there is no such series. */
  of(series: string): number | undefined {
    const level = this.#levels.get(series);
    if (level !== undefined) return level.reduce((sum, read) => sum + read(), 0);
    return this.#numbers.get(series);
  }

  /** The sum of all values of a spread. */
  sumOf(series: string): number | undefined {
    return this.#numbers.get(`${series} sum`);
  }

  count(name: string, _what: string, labels: Labels = {}): Count {
    const series = seriesOf(name, labels);
    this.#add(series, 0);
    return { add: (more = 1) => this.#add(series, more) };
  }

  tally(name: string, what: string, labels: Labels = {}): Count {
    return this.count(name, what, labels);
  }

  level(name: string, _what: string, read: () => number): void {
    this.#levels.set(name, [...(this.#levels.get(name) ?? []), read]);
  }

  spread(name: string, _what: string, _bounds: readonly number[], labels: Labels = {}): Spread {
    const series = seriesOf(name, labels);
    this.#add(series, 0);
    return {
      observe: (value) => {
        this.#add(series, 1);
        this.#add(`${series} sum`, value);
      },
    };
  }

  #add(series: string, more: number): void {
    this.#numbers.set(series, (this.#numbers.get(series) ?? 0) + more);
  }
}

function seriesOf(name: string, labels: Labels): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}="${value}"`);
  return pairs.length === 0 ? name : `${name}{${pairs.join(",")}}`;
}
