/** The repository polices itself: what lint cannot see of how the tree is laid out and what is written in it. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join, posix } from "node:path";
import { nodeFlags } from "../bench/node-flags.ts";
import { filesBelow, root, textOf } from "./support/tree.ts";

const services = ["gateway", "session", "delivery", "presence", "storage"];
const sourceFolders = ["mesh", ...services, "embedded", "client", "cli", "bench"];
const coreFiles = ["README.md", "index.ts", "service.ts", "config.ts", "main.ts"];

const files = filesBelow();
const sources = files.filter(
  (path) => path.endsWith(".ts") && sourceFolders.includes(path.split("/")[0] ?? ""),
);
const written = files.filter(
  (path) => !path.startsWith("proto/gen/") && !/\.(png|jpe?g|gif|webp|ico)$/.test(path),
);

/** `path:line` of every line of a text that matches. */
function matches(path: string, text: string, pattern: RegExp): string[] {
  return text
    .split("\n")
    .flatMap((line, at) => (pattern.test(line) ? [`${path}:${at + 1}: ${line.trim()}`] : []));
}

/** The files that a source names: by import, by `import()`, or as the address of a worker. */
function named(path: string): string[] {
  const names = textOf(path).matchAll(/["'`](\.{1,2}\/[\w./-]+\.tsx?)["'`]/g);
  return [...names].map(([, name = ""]) => posix.join(posix.dirname(path), name));
}

/** Whatever can be reached from these files, themselves included. */
function reached(from: string[]): Set<string> {
  const seen = new Set(from);
  for (const path of seen) {
    for (const next of named(path)) if (files.includes(next)) seen.add(next);
  }
  return seen;
}

describe("layout", () => {
  for (const service of services) {
    it(`${service}/ has the files that every service has`, () => {
      const missing = coreFiles.filter((name) => !files.includes(`${service}/${name}`));
      assert.deepEqual(missing, []);
    });
  }

  it("has no source that nothing uses", () => {
    const entries = ["cli/main.ts", "embedded/index.ts", "client/index.ts", "bench/main.ts"];
    // Processes that the benchmark starts by name, what mocha loads before the tests, and what npm starts.
    entries.push(
      "bench/generator.ts",
      "bench/observed.ts",
      "bench/relay.ts",
      "test/support/ends.ts",
      "test/fuzz/main.ts",
    );
    // The web page, what builds it, and the page of the browser tests that has no face.
    entries.push("client/indexeddb.ts", "client/web/src/main.tsx", "client/web/vite.config.ts");
    entries.push(...["main", "vite.config"].map((name) => `test/browser/fixture/${name}.ts`));
    entries.push(
      ...["bench", "holder", "keyspace", "mode", "run"].map((name) => `test/cluster/${name}.ts`),
    );
    entries.push("test/sim/main.ts", "test/conformance/services/main.ts");
    const specs = files.filter((path) => path.endsWith(".spec.ts"));
    const used = reached([...entries, ...specs]);
    const all = files.filter((path) => path.endsWith(".ts"));
    assert.deepEqual(
      all.filter((path) => !used.has(path)),
      [],
    );
  });

  it("has no heap without a name of its own", () => {
    const heap = /(^|\/)(utils?|helpers?|common|misc|types)(\.ts|\/)/;
    assert.deepEqual(
      files.filter((path) => heap.test(path)),
      [],
    );
  });

  it("names sources in lower case with hyphens", () => {
    const odd = files.filter(
      (path) =>
        path.endsWith(".ts") &&
        !path.startsWith("proto/gen/") &&
        !/^[a-z0-9-]+(\.(spec|config))?\.ts$/.test(posix.basename(path)),
    );
    assert.deepEqual(odd, []);
  });

  it("opens every source with a comment on its job", () => {
    const mute = sources.filter((path) => !/^(#!.*\n)?(\/\*\*|\/\/)/.test(textOf(path)));
    assert.deepEqual(mute, []);
  });
});

describe("text", () => {
  it("reads the time now only from a clock", () => {
    const guarded = sources.filter(
      (path) =>
        !/^(cli|bench|client\/web)\//.test(path) &&
        !/^(mesh\/clock|client\/surroundings)\.ts$/.test(path),
    );
    const now = /\bDate\(\s*\)/;
    assert.deepEqual(matches("control", "a\nnew Date()", now), ["control:2: new Date()"]);
    assert.deepEqual(
      guarded.flatMap((path) => matches(path, textOf(path), now)),
      [],
    );
  });

  it("names no workplace, no registry and no ticket", () => {
    // Put together here, so that this file does not name them.
    const forbidden = new RegExp(
      [
        ["/wo", "rk/"],
        ["\\bsha", "red/"],
        ["\\b(STYLE|PITFALLS|LIMITS|DESIGN|USERS-ASK)", "\\.md\\b"],
        ["\\bissu", "es? #?[0-9]"],
        ["registry\\.", "npmjs"],
        ["pypi", "\\.org"],
        ["crates", "\\.io"],
        ["proxy\\.", "golang"],
        ["repo\\.", "maven"],
        ["deb\\.", "debian"],
      ]
        .map((parts) => parts.join(""))
        .join("|"),
      "i",
    );
    assert.ok(forbidden.test(`see ${["sha", "red/"].join("")}notes`));
    assert.deepEqual(
      written.flatMap((path) => matches(path, textOf(path), forbidden)),
      [],
    );
  });

  it("leaves nothing unfinished", () => {
    const unfinished = new RegExp(["\\bTO", "DO\\b|\\bFIX", "ME\\b"].join(""));
    assert.ok(unfinished.test(`// ${["TO", "DO"].join("")}: later`));
    assert.deepEqual(
      written.flatMap((path) => matches(path, textOf(path), unfinished)),
      [],
    );
  });

  it("skips no test for good and sleeps in none", () => {
    const specs = files.filter((path) => path.startsWith("test/"));
    const lazy = new RegExp(
      ["\\b(it|describe)\\.", "skip\\(|setTime", "out\\((resolve|r|done|ok)\\b"].join(""),
    );
    assert.ok(lazy.test(["setTime", "out(resolve, 500)"].join("")));
    assert.deepEqual(
      specs.flatMap((path) => matches(path, textOf(path), lazy)),
      [],
    );
  });
});

describe("documents", () => {
  const documents = files.filter((path) => path.endsWith(".md"));

  /** The anchors that headings make. */
  function anchors(text: string): string[] {
    return [...text.matchAll(/^#+ +(.+)$/gm)].map(([, heading = ""]) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, "")
        .replaceAll(" ", "-"),
    );
  }

  for (const document of documents) {
    it(`${document} links to what is there`, () => {
      const prose = textOf(document).replace(/```[\s\S]*?```|`[^`\n]*`/g, "");
      const targets = [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = ""]) => target);
      const broken = targets
        .filter((target) => !/^[a-z]+:/.test(target))
        .filter((target) => {
          const [name = "", anchor] = target.split("#");
          const path = name === "" ? document : posix.join(posix.dirname(document), name);
          if (!existsSync(join(root, path))) return true;
          return anchor !== undefined && !anchors(textOf(path)).includes(anchor);
        });
      assert.deepEqual(broken, []);
    });
  }

  it("keeps a decision to a page: context, decision, consequences", () => {
    const decisions = files.filter((path) => path.startsWith("docs/decisions/"));
    assert.ok(decisions.length > 0);
    for (const path of decisions) {
      assert.match(path, /\/\d{4}-[a-z0-9-]+\.md$/);
      const text = textOf(path);
      assert.ok(text.split("\n").length <= 70, `${path} is longer than a page`);
      for (const part of ["context", "decision", "consequences"]) {
        assert.ok(anchors(text).includes(part), `${path} has no "${part}"`);
      }
    }
  });
});

describe("package", () => {
  const manifest = JSON.parse(textOf("package.json")) as Record<string, Record<string, string>>;

  it("names every version exactly, as the lock has it", () => {
    const lock = JSON.parse(textOf("package-lock.json")) as Lock;
    for (const kind of ["dependencies", "devDependencies"]) {
      for (const [name, version] of Object.entries(manifest[kind] ?? {})) {
        assert.match(version, /^\d+\.\d+\.\d+$/, name);
        assert.equal(lock.packages[`node_modules/${name}`]?.version, version, name);
      }
    }
  });

  it("locks the optional packages of every platform, not only of the one where the lock was written", () => {
    const { packages } = JSON.parse(textOf("package-lock.json")) as Lock;
    const missing = Object.entries(packages).flatMap(([path, entry]) =>
      Object.keys(entry?.optionalDependencies ?? {}).filter(
        (name) => !packages[`node_modules/${name}`] && !packages[`${path}/node_modules/${name}`],
      ),
    );
    assert.deepEqual(missing, []);
  });

  it("depends on all that its sources import, and on nothing else", () => {
    const imported = new Set(
      [
        // The web page is built from what is needed for development alone.
        ...sources.filter((path) => !path.startsWith("client/web/")),
        ...files.filter((path) => path.startsWith("proto/gen/")),
        "cli/parley.js",
      ]
        .flatMap((path) => [
          ...textOf(path).matchAll(/(?:\bfrom\s+|\bimport\s*\(?\s*)["'](@?[a-z][\w./:@-]*)["']/g),
        ])
        .map(([, name = ""]) => name)
        .filter((name) => !name.startsWith("node:"))
        .map((name) => (name.startsWith("@") ? name.split("/").slice(0, 2) : name.split("/", 1)))
        .map((parts) => parts.join("/")),
    );
    const declared = Object.keys(manifest["dependencies"] ?? {});
    assert.deepEqual([...imported].sort(), declared.sort());
  });

  it("starts the command by a file that the system can run", () => {
    const command = manifest["bin"]?.["parley"] ?? "";
    const flags = nodeFlags.join(" ");
    assert.equal(textOf(command).split("\n", 1)[0], `#!/usr/bin/env -S node ${flags}`);
    // Those that name it themselves tell V8 the same.
    assert.equal(manifest["scripts"]?.["start"], `node ${flags} ${command} start`);
    const words = ["node", ...nodeFlags, `/parley/${command}`].map((word) => JSON.stringify(word));
    assert.ok(textOf("Dockerfile").includes(`ENTRYPOINT [${words.join(", ")}]`));
  });
});

interface Lock {
  packages: Record<
    string,
    { version: string; optionalDependencies?: Record<string, string> } | undefined
  >;
}
