/** How sure a mean of few values is. */

export interface Interval {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/** Student's t for 95 in 100, of one degree of freedom and more. */
const student = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145,
  2.131, 2.12, 2.11, 2.101, 2.093, 2.086,
];

/** Where the mean of all such values is, with 95 in 100 chances. Undefined for fewer than two. */
export function intervalOf(values: readonly number[]): Interval | undefined {
  const count = values.length;
  if (count < 2) return undefined;
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const t = student[Math.min(count - 1, student.length) - 1] ?? NaN;
  const half = t * Math.sqrt(squares / (count - 1) / count);
  return { mean, low: mean - half, high: mean + half };
}
