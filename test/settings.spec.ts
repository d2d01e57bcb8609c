/** The table of settings in docs/operations.md is what the configuration says of itself; UPDATE=1 writes it anew. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parleySettings } from "../embedded/index.ts";
import type { Setting } from "../mesh/env.ts";
import { root, textOf } from "./support/tree.ts";

const document = "docs/operations.md";
const [begin, end] = ["<!-- settings -->", "<!-- end of settings -->"] as const;

function rows(settings: readonly Setting[]): string[] {
  const cells = settings.map(({ name, flag, standard, range, doc }) => [
    `\`${name}\``,
    `\`${flag}\``,
    standard === "" ? "" : `\`${standard}\``,
    range,
    doc,
  ]);
  const head = [
    ["setting", "flag", "standard", "may be", "what it is"],
    ["---", "---", "---", "---", "---"],
  ];
  return [...head, ...cells].map((row) => `| ${row.join(" | ")} |`);
}

/** A table's rows without the padding that the formatter adds. */
const bare = (table: string): string[] =>
  table
    .trim()
    .split("\n")
    .map((row) => row.replace(/-{3,}/g, "---").replace(/ +/g, " ").trim());

it("docs/operations.md has every setting as it is: else run with UPDATE=1", () => {
  const settings = parleySettings();
  const expected = rows(settings);
  const text = textOf(document);
  const [before, rest = ""] = text.split(begin);
  const [table = "", after] = rest.split(end);
  assert.ok(before !== undefined && after !== undefined, `${document} has no ${begin} … ${end}`);
  if (process.env["UPDATE"] === "1") {
    const next = `${before}${begin}\n\n${expected.join("\n")}\n\n${end}${after}`;
    writeFileSync(join(root, document), next);
  } else {
    assert.deepEqual(bare(table), expected.flatMap(bare));
  }
});
