/** The commands of a document, with what they are said to print: fenced blocks of sh, each with the text block after it. */

export interface Block {
  /** For the test's name: the line that it is on, and its first command. */
  readonly name: string;
  /** The heading (##) that it is under. */
  readonly section: string;
  readonly commands: string;
  /** As it is written; undefined where nothing is. */
  readonly output: string | undefined;
  /** "2" where the first line is the comment "# terminal 2". */
  readonly terminal: string | undefined;
}

/** What differs each time: times, tokens of syncs, ids. */
const rules: readonly [pattern: RegExp, instead: string][] = [
  [/\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?/g, "TIME"],
  [/\b1\d{12}\b/g, "MILLISECONDS"],
  [/"token":"[A-Za-z0-9+/=]+"/g, '"token":"TOKEN"'],
  [/"storeId":"[\w-]{22}"/g, '"storeId":"STORE"'],
  [/\bg:[A-Za-z0-9_-]{22}/g, "g:GROUP"],
  [/\b[0-9a-f]{64}\b/g, "MEDIA"],
  [/eyJ[\w-]+\.[\w-]+\.[\w-]+/g, "JWT"],
  [/\bpid":\d+/g, 'pid":PID'],
];

/** The text with what differs each time replaced, and without blanks at the ends of lines. */
export function lasting(text: string): string {
  let said = text;
  for (const [pattern, instead] of rules) said = said.replace(pattern, instead);
  return said
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n")
    .trim();
}

export function blocksOf(document: string): Block[] {
  const fences = [...document.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)];
  return fences.flatMap(([, language, commands = ""], at) => {
    if (language !== "sh") return [];
    const [, nextLanguage, next] = fences[at + 1] ?? [];
    const before = document.slice(0, fences[at]?.index);
    const line = before.split("\n").length;
    const section = [...before.matchAll(/^## (.*)$/gm)].at(-1)?.[1] ?? "";
    const lines = commands.trim().split("\n");
    const first = lines.find((one) => !one.startsWith("#")) ?? "";
    const [, terminal] = /^# terminal (\d+)/.exec(commands) ?? [];
    const output = nextLanguage === "text" ? next : undefined;
    return [{ name: `line ${line}: ${first.slice(0, 72)}`, section, commands, output, terminal }];
  });
}
