/** What is left of entries that were erased after they came here. */
import type { Entry, ErasureBody } from "./session.ts";

const isIn = ({ ranges }: ErasureBody, seq: number): boolean =>
  ranges.some(({ from, to }) => seq >= from && seq <= to);

/** Without what they said and who it was. */
export function emptied(entry: Entry): Entry {
  return { ...entry, senderId: "", clientId: "", body: { t: "erased" } };
}

/** The same array where none of them is concerned. */
export function withErasure(entries: readonly Entry[], erasure: ErasureBody): readonly Entry[] {
  if (!entries.some(({ seq }) => isIn(erasure, seq))) return entries;
  return entries.map((entry) => (isIn(erasure, entry.seq) ? emptied(entry) : entry));
}
