/** Names that no other test of this run has, since a process under test keeps what earlier tests did. */
let tests = 0;

/** A name of its own for each of these. */
export function fresh<const N extends readonly string[]>(...names: N): { [At in keyof N]: string } {
  tests += 1;
  // Each name becomes one; the tuple's length stays.
  return names.map((name) => `${name}-${tests}`) as { [At in keyof N]: string };
}
