/** Every lint rule that this project relies on is shown to bite, in the folder where it must, and nowhere else. */
import assert from "node:assert/strict";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { root, runTool } from "./support/tree.ts";

const services = ["gateway", "session", "delivery", "presence", "storage"];

interface Offence {
  says: string;
  file: string;
  code: string;
  /** The rule that must speak, and no other. */
  rule: string;
}

/** Code that a rule must refuse. */
const offences: Offence[] = [
  {
    says: "a promise that nobody waits for",
    file: "mesh/floating.ts",
    code: "async function work(): Promise<void> {}\nexport function start(): void {\n  work();\n}",
    rule: "typescript/no-floating-promises",
  },
  {
    says: "a promise taken for a condition",
    file: "gateway/misused.ts",
    code: "export function ready(open: Promise<boolean>): number {\n  return open ? 1 : 0;\n}",
    rule: "typescript/no-misused-promises",
  },
  {
    says: "a switch that forgets a case",
    file: "delivery/forgets.ts",
    code: 'export function next(state: "live" | "closed"): number {\n  switch (state) {\n    case "live":\n      return 1;\n  }\n  return 0;\n}',
    rule: "typescript/switch-exhaustiveness-check",
  },
  {
    says: "any",
    file: "storage/any.ts",
    code: "export const given: any = 1;",
    rule: "typescript/no-explicit-any",
  },
  {
    says: "a non-null assertion",
    file: "session/assertion.ts",
    code: "export const first = (list: string[]): string => list[0]!;",
    rule: "typescript/no-non-null-assertion",
  },
  {
    says: "a compiler error silenced",
    file: "presence/silenced.ts",
    code: "// @ts-ignore\nexport const given: number = 1;",
    rule: "typescript/ban-ts-comment",
  },
  {
    says: "a lint error silenced for nothing",
    file: "presence/idle.ts",
    code: "// oxlint-disable-next-line no-var\nexport const given = 1;",
    rule: "Unused oxlint-disable directive (no problems were reported).",
  },
  {
    says: "a throw of something that is no error",
    file: "mesh/throws.ts",
    code: 'export function fail(): never {\n  throw "late";\n}',
    rule: "typescript/only-throw-error",
  },
  {
    says: "a file of more than 400 lines",
    file: "mesh/long.ts",
    code: "export {};\n".repeat(401),
    rule: "eslint/max-lines",
  },
  {
    says: "a function of more than 70 lines",
    file: "mesh/long-function.ts",
    code: `export function count(n: number): number {\n${"  n += 1;\n".repeat(70)}  return n;\n}`,
    rule: "eslint/max-lines-per-function",
  },
  ...[
    ["setTimeout", "setTimeout(() => {}, 1)"],
    ["setInterval", "setInterval(() => {}, 1)"],
    ["setImmediate", "setImmediate(() => {})"],
    ["Date.now", "Date.now()"],
    ["new Date", "new Date()"],
    ["Date", "Date()"],
    ["performance.now", "performance.now()"],
    ["crypto.randomUUID", "crypto.randomUUID()"],
  ].flatMap(([name = "", call = ""], at) =>
    [services[at % services.length] ?? "", "mesh", "embedded", "client"].map((folder) => ({
      says: `${name} in ${folder}`,
      file: `${folder}/global-${at}.ts`,
      code: `export const got: unknown = ${call};`,
      rule: "eslint/no-restricted-globals",
    })),
  ),
  ...["Math.random()", "process.env", "process.exit(1)", "AbortSignal.timeout(1)"].map(
    (use, at) => ({
      says: use,
      file: `${services[at] ?? ""}/property-${at}.ts`,
      code: `export const got: unknown = ${use};`,
      rule: "eslint/no-restricted-properties",
    }),
  ),
  {
    says: "a log line past the logger",
    file: "gateway/prints.ts",
    code: 'console.log("hello");\nexport {};',
    rule: "eslint/no-console",
  },
  ...[
    'import { setTimeout } from "node:timers/promises"',
    'import { setTimeout } from "timers"',
    'import { env } from "node:process"',
    'import { randomUUID } from "node:crypto"',
    'import { performance } from "node:perf_hooks"',
  ].flatMap((statement, at) =>
    ["mesh", services[at] ?? "", "embedded"].map((folder) => ({
      says: `${statement} in ${folder}`,
      file: `${folder}/builtin-${at}.ts`,
      code: `export ${statement.slice("import ".length)};`,
      rule: "eslint/no-restricted-imports",
    })),
  ),
  ...borders({
    mesh: [...services, "embedded", "client", "cli", "bench", "test"],
    ...Object.fromEntries(
      services.map((service) => [
        service,
        [
          ...services.filter((other) => other !== service),
          "embedded",
          "client",
          "cli",
          "bench",
          "test",
        ],
      ]),
    ),
    embedded: ["client", "cli", "bench", "test"],
    client: ["mesh", ...services, "embedded", "cli", "bench", "test"],
    cli: [...services, "test"],
    bench: [...services, "test"],
  }),
  ...services.map((service) => ({
    says: `embedded looking into ${service}`,
    file: `embedded/into-${service}.ts`,
    code: `export { given } from "../${service}/given.ts";`,
    rule: "eslint/no-restricted-imports",
  })),
  {
    says: "an import of another service at run time",
    file: "gateway/runtime.ts",
    code: 'export const late = (): Promise<unknown> => import("../session/given.ts");',
    rule: "eslint/no-restricted-imports",
  },
  {
    says: "an import of another service from a folder further down",
    file: "gateway/deep/runtime.ts",
    code: 'export { given } from "../../session/given.ts";',
    rule: "eslint/no-restricted-imports",
  },
  {
    says: "a cycle of imports",
    file: "mesh/hen.ts",
    code: 'import { egg } from "./egg.ts";\nexport const hen = (): unknown => egg;',
    rule: "import/no-cycle",
  },
  {
    says: "the other half of the cycle",
    file: "mesh/egg.ts",
    code: 'import { hen } from "./hen.ts";\nexport const egg = (): unknown => hen;',
    rule: "import/no-cycle",
  },
];

function borders(refused: Record<string, string[]>): Offence[] {
  return Object.entries(refused).flatMap(([folder, others]) =>
    others.map((other) => ({
      says: `${folder} importing ${other}`,
      file: `${folder}/border-${other}.ts`,
      code: `export { given } from "../${other}/index.ts";`,
      rule: "eslint/no-restricted-imports",
    })),
  );
}

/** Code that must pass: what the borders and bans leave open. */
const allowed: Record<string, string> = {
  "proto/gen/made.ts": "export const made: any = Date.now();",
  "mesh/clock.ts":
    "export const now = (): number => Date.now() + new Date().getTime();\nsetTimeout(now, 1);",
  "mesh/random.ts":
    'import { randomBytes } from "node:crypto";\nexport const unit = (): number => Math.random() + randomBytes(1).length;',
  "mesh/sees.ts":
    'export { made } from "../proto/gen/made.ts";\nexport { createHash } from "node:crypto";',
  ...Object.fromEntries(
    services.map((service) => [
      `${service}/sees.ts`,
      'export { made } from "../proto/gen/made.ts";\nexport { now } from "../mesh/clock.ts";\nexport { given } from "./given.ts";\nexport { createHash } from "node:crypto";',
    ]),
  ),
  "embedded/sees.ts": `export { unit } from "../mesh/random.ts";\n${services.map((service) => `export { given as ${service} } from "../${service}/index.ts";`).join("\n")}`,
  "client/sees.ts": 'export { made } from "../proto/gen/made.ts";',
  "client/surroundings.ts": "export const now = (): number => Date.now();",
  "cli/sees.ts":
    'export { given } from "../embedded/index.ts";\nexport { given as client } from "../client/index.ts";\nexport const home = process.env["HOME"];\nconsole.log(Date.now());',
  "bench/sees.ts":
    'export { given } from "../embedded/index.ts";\nexport { given as client } from "../client/index.ts";\nsetTimeout(() => {}, 1);',
  "test/sees.ts":
    'export { given } from "../gateway/given.ts";\nsetImmediate(() => {});\nexport const got: unknown = Date.now();',
};

const given = Object.fromEntries(
  ["mesh", ...services, "embedded", "client", "cli", "bench", "test"].flatMap((folder) => [
    [`${folder}/index.ts`, 'export { given } from "./given.ts";'],
    [`${folder}/given.ts`, "export const given = 1;"],
  ]),
);

/** The rules that speak in each file, by one run of the linter over them all. */
function lint(files: Record<string, string>): Map<string, Set<string>> {
  const folder = mkdtempSync(join(tmpdir(), "parley-lint-"));
  try {
    for (const name of [".oxlintrc.json", "tsconfig.json", "package.json"]) {
      cpSync(join(root, name), join(folder, name));
    }
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"), "dir");
    for (const [path, code] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), `${code}\n`);
    }
    const { output } = runTool("oxlint", ["--format", "json", "."], folder);
    const heard = new Map(Object.keys(files).map((path) => [path, new Set<string>()]));
    for (const { code, message, filename } of (JSON.parse(output) as Report).diagnostics) {
      const rule = (code ?? message).replace(/^([\w-]+)\((.+)\)$/, "$1/$2");
      heard.get(filename)?.add(rule);
    }
    return heard;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

interface Report {
  diagnostics: { code?: string; message: string; filename: string }[];
}

describe("lint", function () {
  this.timeout(60_000);
  let heard: Map<string, Set<string>>;

  before(() => {
    const bad = Object.fromEntries(offences.map(({ file, code }) => [file, code]));
    assert.equal(Object.keys(bad).length, offences.length, "two offences share a file");
    heard = lint({ ...given, ...allowed, ...bad });
  });

  for (const { says, file, rule } of offences) {
    it(`refuses ${says}`, () => {
      assert.deepEqual([...(heard.get(file) ?? [])], [rule]);
    });
  }

  for (const path of Object.keys(allowed)) {
    it(`lets ${path} do what it is there for`, () => {
      assert.deepEqual([...(heard.get(path) ?? [])], []);
    });
  }
});
