/** The table of settings in docs/operations.md is what the configuration of each command says of itself; UPDATE=1 writes it anew. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { migrateSettings, serviceCommands } from "../cli/processes.ts";
import { parleySettings } from "../embedded/index.ts";
import { serviceNames } from "../mesh/directory.ts";
import type { Setting } from "../mesh/env.ts";
import { root, textOf } from "./support/tree.ts";

const document = "docs/operations.md";
const [begin, end] = ["<!-- settings -->", "<!-- end of settings -->"] as const;

/** The commands that know a setting, as it is: those of a cluster's services together are "cluster". */
const commands: readonly (readonly [string, readonly Setting[]])[] = [
  ["start", parleySettings()],
  ...(await serviceCommands()).map(({ name, settings }) => [name, settings] as const),
  ["migrate", migrateSettings()],
];

/** Each setting once, with those who know it; one that differs from command to command is there for each. */
function rows(): string[] {
  const knownBy = new Map<string, string[]>();
  for (const [command, settings] of commands) {
    for (const { name, flag, standard, range, doc } of settings) {
      const cells = [`\`${name}\``, `\`${flag}\``];
      cells.push(standard === "" ? "" : `\`${standard}\``, range, doc);
      const row = cells.join(" | ");
      knownBy.set(row, [...(knownBy.get(row) ?? []), command]);
    }
  }
  const head = [
    "setting | flag | standard | may be | what it is | of",
    "--- | --- | --- | --- | --- | ---",
  ];
  const body = [...knownBy].map(([row, names]) => `${row} | ${together(names)}`);
  return [...head, ...body].map((row) => `| ${row} |`);
}

function together(names: readonly string[]): string {
  const services: readonly string[] = serviceNames;
  if (!services.every((one) => names.includes(one))) return names.join(", ");
  return [...names.filter((one) => !services.includes(one)), "cluster"].join(", ");
}

/** A table's rows without the padding that the formatter adds. */
const bare = (table: string): string[] =>
  table
    .trim()
    .split("\n")
    .map((row) => row.replace(/-{3,}/g, "---").replace(/ +/g, " ").trim());

it("docs/operations.md has every setting as it is: else run with UPDATE=1", () => {
  const expected = rows();
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
