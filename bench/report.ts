/** What a run found, and how it is printed. */
import { faultCount, faultKinds, type Faults } from "./check.ts";
import type { Interval } from "./interval.ts";
import type { Quantiles } from "./histogram.ts";
import type { Measured } from "./job.ts";
import type { Machine } from "./machine.ts";

/** One line of the table. */
export interface Row {
  readonly scenario: string;
  readonly what: string;
  readonly measured?: Measured | undefined;
  readonly faults?: Faults | undefined;
  /** The server's resident memory at the end. */
  readonly residentBytes?: number | undefined;
  readonly note?: string | undefined;
}

/** A figure that is promised. */
export interface Goal {
  readonly what: string;
  readonly value: number | undefined;
  readonly limit: number;
  /** Whether the value must not be below the limit, or not above it. */
  readonly bound: "at least" | "at most";
  readonly unit: string;
  /** Where the value is in with 95 in 100 chances: it says nothing of a limit between its ends. */
  readonly interval?: Interval;
}

export interface Report {
  readonly machine: Machine;
  readonly settings: Record<string, string | number | boolean>;
  readonly rows: Row[];
  readonly goals: Goal[];
  /** Scenarios that could not be measured, and why. */
  readonly failures: { scenario: string; message: string }[];
  readonly loadAtEnd: string;
}

/** Undefined: not measured. */
export function met(goal: Goal): boolean | undefined {
  if (goal.value === undefined) return undefined;
  const { low, high } = goal.interval ?? { low: goal.value, high: goal.value };
  if (low < goal.limit && goal.limit < high) return undefined;
  return goal.bound === "at least" ? goal.value >= goal.limit : goal.value <= goal.limit;
}

/** No message was lost, doubled or reordered, and every scenario was measured. Goals of speed are not part of it. */
export const sound = (report: Report): boolean =>
  report.failures.length === 0 &&
  report.rows.every((row) => row.faults === undefined || faultCount(row.faults) === 0);

/** Messages for one CPU-second of the server. */
export function perServerSecond(measured: Measured): number | undefined {
  const { serverSeconds, count } = measured;
  return serverSeconds === undefined || serverSeconds <= 0 ? undefined : count / serverSeconds;
}

/** Server CPU for one message, in microseconds. */
export function microsEach(measured: Measured): number | undefined {
  const per = perServerSecond(measured);
  return per === undefined || per === 0 ? undefined : 1e6 / per;
}

const none = "-";

export function short(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return none;
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)}k`;
  if (value >= 100) return value.toFixed(0);
  return value.toFixed(value >= 10 ? 1 : 2);
}

const percent = (part: number | undefined, whole: number): string =>
  part === undefined ? none : `${((100 * part) / whole).toFixed(0)}%`;

const latency = (quantiles: Quantiles | undefined): string =>
  quantiles === undefined
    ? none
    : [quantiles.p50Ms, quantiles.p99Ms, quantiles.p999Ms].map(short).join(" / ");

const memory = (bytes: number | undefined): string =>
  bytes === undefined ? none : `${(bytes / 2 ** 20).toFixed(0)} MiB`;

const columns = [
  "run",
  "per s",
  "per CPU-s",
  "CPU us",
  "server",
  "generator",
  "ack ms p50/p99/p99.9",
  "delivered ms p50/p99/p99.9",
  "lost",
  "doubled",
  "reordered",
  "other faults",
  "RSS",
];

function cells(row: Row): string[] {
  const { measured, faults } = row;
  const figures =
    measured === undefined
      ? [none, none, none, none, none, none, none]
      : [
          short(measured.count / measured.seconds),
          short(perServerSecond(measured)),
          short(microsEach(measured)),
          percent(measured.serverSeconds, measured.seconds),
          percent(measured.generatorSeconds, measured.seconds),
          latency(measured.ack),
          latency(measured.delivery),
        ];
  const counts =
    faults === undefined
      ? [none, none, none, none]
      : [faults.lost, faults.doubled, faults.reordered, othersOf(faults)].map(String);
  return [row.what, ...figures, ...counts, memory(row.residentBytes)];
}

const othersOf = (faults: Faults): number =>
  faultCount(faults) - faults.lost - faults.doubled - faults.reordered;

function table(lines: string[][]): string[] {
  const widths = (lines[0] ?? []).map((_, column) =>
    Math.max(...lines.map((line) => line[column]?.length ?? 0)),
  );
  return lines.map((line) =>
    line
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
}

const verdict = (goal: Goal): string => {
  const is = met(goal);
  if (is !== undefined) return is ? "met" : "MISSED";
  return goal.value === undefined ? "not measured" : "not told apart";
};

const valueOf = ({ value, interval, unit }: Goal): string => {
  const found =
    value === undefined || interval === undefined
      ? short(value)
      : `${value.toFixed(3)} (${interval.low.toFixed(3)} to ${interval.high.toFixed(3)})`;
  return `${found} ${unit}`.trim();
};

export function printed(report: Report): string {
  const { machine } = report;
  const lines = [
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, kernel ${machine.kernel}, node ${machine.node}`,
    `commit ${machine.commit}; store on ${machine.dataOn}`,
    `load average ${machine.load} at the beginning, ${report.loadAtEnd} at the end`,
    Object.entries(report.settings)
      .map(([name, value]) => `${name} ${value}`)
      .join(", "),
    "",
    ...table([columns, ...report.rows.map(cells)]),
    "",
  ];
  for (const row of report.rows) {
    if (row.note !== undefined) lines.push(`${row.what}: ${row.note}`);
  }
  if (report.goals.length > 0) {
    lines.push(
      "",
      ...table([
        ["goal", "measured", "wanted", ""],
        ...report.goals.map((goal) => [
          goal.what,
          valueOf(goal),
          `${goal.bound} ${goal.limit} ${goal.unit}`.trim(),
          verdict(goal),
        ]),
      ]),
    );
  }
  lines.push("", ...faultLines(report));
  return lines.join("\n");
}

function faultLines(report: Report): string[] {
  const lines = report.failures.map(({ scenario, message }) => `FAILED ${scenario}: ${message}`);
  for (const { what, faults } of report.rows) {
    if (faults === undefined) continue;
    if (faultCount(faults) > 0) {
      const counts = faultKinds.filter((kind) => faults[kind] > 0);
      lines.push(`FAULTS ${what}: ${counts.map((kind) => `${faults[kind]} ${kind}`).join(", ")}`);
    }
    for (const example of faults.examples) lines.push(`  ${example}`);
  }
  if (sound(report)) lines.push("no message was lost, doubled or reordered");
  return lines;
}
