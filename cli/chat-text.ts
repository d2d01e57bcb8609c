/** Text as a terminal shows it: cells instead of characters, broken into lines, and with nothing in it that would steer the terminal. */

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** East Asian wide and full-width characters, which take two cells. */
const wide =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1f64f}\u{1f680}-\u{1f6ff}\u{1f900}-\u{1f9ff}\u{20000}-\u{3fffd}]/u;
const emoji = /\p{Emoji_Presentation}|\ufe0f/u;
const noCell = /^[\p{Mn}\p{Me}\p{Cf}]+$/u;
/** Escape sequences begin with these, and bidirectional overrides make a line lie about its order. */
// oxlint-disable-next-line no-control-regex -- they are what is looked for
const steering = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u2028\u2029]/g;

/** What others wrote, without the characters that steer a terminal. Line ends stay. */
export function clean(text: string): string {
  return text.replaceAll(/\r\n?/g, "\n").replaceAll("\t", "    ").replaceAll(steering, "�");
}

/** The same on one line. */
export function cleanLine(text: string): string {
  return clean(text).replaceAll("\n", " ↵ ");
}

export function splitGraphemes(text: string): string[] {
  return Array.from(graphemes.segment(text), ({ segment }) => segment);
}

/** How many cells the text takes. */
export function cells(text: string): number {
  // Printable ASCII is what most text is.
  if (/^[\u0020-\u007e]*$/.test(text)) return text.length;
  let sum = 0;
  for (const grapheme of splitGraphemes(text)) sum += cellsOf(grapheme);
  return sum;
}

function cellsOf(grapheme: string): number {
  if (noCell.test(grapheme)) return 0;
  return wide.test(grapheme) || emoji.test(grapheme) ? 2 : 1;
}

/** Lines of at most `columns` cells: broken between words where it can be, else within them. At least one line. */
export function wrap(text: string, columns: number): string[] {
  const width = Math.max(2, columns);
  return text.split("\n").flatMap((line) => wrapLine(line, width));
}

function wrapLine(line: string, width: number): string[] {
  const lines: string[] = [];
  let current = "";
  let used = 0;
  for (const word of line.split(/(?<= )(?=[^ ])/u)) {
    const bare = word.trimEnd();
    if (used > 0 && used + cells(bare) > width) {
      lines.push(current.trimEnd());
      current = "";
      used = 0;
    }
    for (const grapheme of splitGraphemes(word)) {
      const size = cellsOf(grapheme);
      if (used + size > width) {
        // A space at the end of a full line is the line's end.
        if (grapheme === " ") continue;
        lines.push(current);
        current = "";
        used = 0;
      }
      current += grapheme;
      used += size;
    }
  }
  lines.push(current);
  return lines;
}

/** At most `columns` cells, with an ellipsis where something is left out. */
export function truncate(text: string, columns: number): string {
  if (cells(text) <= columns) return text;
  let kept = "";
  let used = 0;
  for (const grapheme of splitGraphemes(text)) {
    const size = cellsOf(grapheme);
    if (used + size > columns - 1) break;
    kept += grapheme;
    used += size;
  }
  return columns > 0 ? `${kept}…` : "";
}

/** Exactly `columns` cells. */
export function fit(text: string, columns: number): string {
  const kept = truncate(text, columns);
  return kept + " ".repeat(Math.max(0, columns - cells(kept)));
}
