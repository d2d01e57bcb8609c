/** Tables for people: columns as wide as what is in them. */

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows];
  const widths = head.map((_, at) => Math.max(...all.map((row) => row[at]?.length ?? 0)));
  return all
    .map((row) =>
      row
        .map((text, at) => text.padEnd(widths[at] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** "2026-11-24 19:04:05"; "-" for never. */
export function time(ms: bigint): string {
  if (ms === 0n) return "-";
  return new Date(Number(ms)).toISOString().slice(0, 19).replace("T", " ");
}

/** What is not there is shown, too. */
export const shown = (text: string): string => (text === "" ? "-" : text);
