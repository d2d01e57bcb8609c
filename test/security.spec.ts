/** docs/security.md names tests: each of them is there. And what the examples depend on is pinned. */
import assert from "node:assert/strict";
import { filesBelow, textOf } from "./support/tree.ts";

const document = textOf("docs/security.md");
const files = filesBelow();

/** `test/a.spec.ts` "a title, or a part of one" */
const named = [...document.matchAll(/`(test\/[\w./-]+\.spec\.ts)` "([^"]+)"/g)].map(
  ([, path = "", title = ""]) => ({ path, title }),
);

/** What follows `it(` in a spec, as it is written. */
function titlesOf(path: string): string[] {
  const text = files.includes(path) ? textOf(path) : "";
  return [...text.matchAll(/\bit\(\s*(["'`])([^\n]*?)\1,/g)].map(([, , title = ""]) => title);
}

describe("docs/security.md", () => {
  it("names tests that are there", () => {
    assert.ok(titlesOf("test/security.spec.ts").includes("names tests that are there"));
    assert.ok(named.length > 80, `${named.length} tests`);
    const titles = new Map<string, string[]>();
    for (const { path } of named) if (!titles.has(path)) titles.set(path, titlesOf(path));
    assert.deepEqual(
      named.filter(({ path, title }) => !titles.get(path)?.some((one) => one.includes(title))),
      [],
    );
  });

  it("shows each thing that somebody may not do, and each limit, by a test", () => {
    const tables = document.split(/^\| *[^\n]*\| shown by *\|$/m).slice(1);
    const rows = tables.flatMap(
      (table) => table.split("\n\n")[0]?.trim().split("\n").slice(1) ?? [],
    );
    assert.ok(rows.length > 60, `${rows.length} rows`);
    assert.deepEqual(
      rows.filter((row) => !/`test\/[\w./-]+\.spec\.ts` "/.test(row)),
      [],
    );
  });
});

describe("the versions of what the examples depend on", () => {
  it("are exact", () => {
    const python = textOf("examples/python/requirements.txt").trim().split("\n");
    assert.deepEqual(
      python.filter((line) => !/^[\w.-]+==\d+(\.\d+)+$/.test(line)),
      [],
    );
    const java = [...textOf("examples/java/pom.xml").matchAll(/<(?:\w+\.)?version>([^<]*)<\//g)];
    assert.ok(java.length > 6);
    assert.deepEqual(
      java
        .map(([, version = ""]) => version)
        .filter((one) => !/^(\d+(\.\d+)*|\$\{[\w.]+\})$/.test(one)),
      [],
    );
    const modules = files.filter((path) => /^examples\/.*\/go\.mod$/.test(path));
    assert.ok(modules.length > 0);
    for (const module of modules)
      assert.ok(files.includes(module.replace(/mod$/, "sum")), `${module} has no sums`);
  });
});
