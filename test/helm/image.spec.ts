/** The image without a builder of images: what the Dockerfile says, done in a folder on its version of Node, and what comes of it run as a stranger who may not write there. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, chown, cp, mkdir, readdir } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { newFolder, secret } from "../support/parley.ts";
import { root, textOf } from "../support/tree.ts";
import { asked, within } from "../support/within.ts";
import { container, manifests, pods, rendered } from "./chart.ts";
import { environment } from "./pod.ts";
import { runs, tool } from "./tools.ts";

const address = `${process.env["TEST_NETWORK"] ?? "127.40"}.4.1`;
const user = 1_000;
const mayBecomeAnother = process.getuid?.() === 0;

interface Instruction {
  readonly verb: string;
  readonly rest: string;
}

function instructions(): Instruction[] {
  return textOf("Dockerfile")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => ({ verb: line.split(" ")[0] ?? "", rest: line.slice(line.indexOf(" ") + 1) }));
}

const ignored = (): Set<string> => new Set(textOf(".dockerignore").trim().split("\n"));

/** Copies as COPY does, from the checkout or from an earlier stage. */
async function copies(rest: string, from: string, into: string): Promise<void> {
  const names = rest.split(" ").filter((word) => !word.startsWith("--"));
  const to = names.pop() ?? "";
  for (const name of names) {
    const path = name.replace(/^\/parley\//, "");
    const place = to.endsWith("/") ? join(into, to, path.split("/").at(-1) ?? "") : join(into, to);
    await mkdir(join(place, ".."), { recursive: true });
    const isOurs = (source: string): boolean =>
      from !== root || !ignored().has(source.slice(root.length).split("/")[0] ?? "");
    await cp(join(from, path), place, { recursive: true, filter: isOurs });
  }
}

const { lack } = await tool("helm");
if (lack !== "") console.log(`skipped: ${lack}`);

describe("the image", function () {
  this.timeout(15 * 60_000);
  let folder: Awaited<ReturnType<typeof newFolder>>;
  let image: string;
  let node: string;
  const all = instructions();

  before(async function () {
    if (lack !== "") return this.skip();
    folder = await newFolder();
    await chmod(folder.path, 0o755);
    const [build, last] = [join(folder.path, "build"), join(folder.path, "image")];
    for (const path of [build, last, join(folder.path, "node")]) await mkdir(path);
    node = await nodeOf(join(folder.path, "node"));
    const env = { PATH: join(node, "..") + delimiter + (process.env["PATH"] ?? "") };
    let stage = "";
    for (const { verb, rest } of all) {
      if (verb === "FROM") stage = stage === "" ? build : last;
      else if (verb === "COPY") await copies(rest, stage === build ? root : build, stage);
      // The last stage makes what is the system's, outside of what is Parley's.
      else if (verb === "RUN" && stage === build) await says("sh", ["-c", rest], env, build);
    }
    image = last;
    await says("chmod", ["-R", "a-w", image]);
  });
  after(async () => {
    if (lack !== "") return;
    await says("chmod", ["-R", "u+w", folder.path]);
    await folder.remove();
  });

  /** The version of Node that both stages are from, from the registry of packages. */
  async function nodeOf(place: string): Promise<string> {
    const versions = all.flatMap(({ rest }) => /^node:(\d+)-/.exec(rest)?.[1] ?? []);
    assert.equal(new Set(versions).size, 1, "one version in all stages");
    const name = `node-${process.platform}-${process.arch}`;
    const args = ["install", "--prefix", place, "--no-audit", `${name}@${versions[0] ?? ""}`];
    await says("npm", args);
    return join(place, "node_modules", name, "bin/node");
  }

  async function says(
    file: string,
    args: readonly string[],
    env = {},
    cwd = root,
  ): Promise<string> {
    const { code, output, errors } = await runs(file, args, env, cwd);
    assert.equal(code, 0, `${file} ${args.join(" ")}: ${output}${errors}`);
    return output;
  }

  /** Its entry point, as the user that it names, without a shell and without anything of ours in the environment. */
  function entered(args: readonly string[], env: Readonly<Record<string, string>> = {}): Entered {
    const entry = JSON.parse(one("ENTRYPOINT")) as string[];
    assert.equal(entry[0], "node");
    const own = entry.slice(1).map((word) => word.replace("/parley/", `${image}/`));
    const child = spawn(node, [...own, ...args], {
      env: { NODE_ENV: "production", TMPDIR: join(folder.path, "tmp"), ...env },
      stdio: ["ignore", "pipe", "pipe"],
      ...(mayBecomeAnother ? { uid: user, gid: user } : {}),
    });
    const entered = { child, said: "" };
    const keep = (data: Buffer): void => void (entered.said += data.toString());
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    const end = new Promise<number | null>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", resolve);
    });
    return Object.assign(entered, { end });
  }

  const one = (verb: string): string => {
    const found = all.filter((instruction) => instruction.verb === verb);
    assert.equal(found.length, 1, verb);
    return found[0]?.rest ?? "";
  };

  it("is run by the chart as the user that it names", async () => {
    assert.equal(one("USER"), `${user}:${user}`);
    for (const { of, spec } of pods(manifests(await rendered({ jwt: { secret } }))))
      assert.equal(spec.securityContext?.runAsUser, user, of);
  });

  it("has what runs, and nothing else: no sources, no tests, no tools", async () => {
    const found = await says(
      "find",
      [".", "-path", "./node_modules", "-prune", "-o", "-type", "f"],
      {},
      image,
    );
    assert.ok(found.includes("./dist/cli/main.js"));
    const others = found
      .split("\n")
      .filter((path) => /\.spec\.|\.tsx?$/.test(path) && !path.endsWith(".d.ts"));
    assert.deepEqual(others, []);
    for (const name of ["typescript", "mocha", "vite"])
      assert.equal(existsSync(join(image, "node_modules", name)), false, name);
  });

  it("says its version", async () => {
    const run = entered(["--version"]);
    assert.equal(await within(60_000, "its end", run.end), 0, run.said);
    const { version } = JSON.parse(textOf("package.json")) as { version: string };
    assert.equal(run.said.trim(), version);
  });

  it("serves with what the chart gives it, page and all, writing to its volumes alone, and ends when it is told to", async () => {
    const places = { "/data": join(folder.path, "data"), "/tmp": join(folder.path, "tmp") };
    for (const place of Object.values(places)) {
      await mkdir(place);
      if (mayBecomeAnother) await chown(place, user, user);
    }
    const pod = pods(manifests(await rendered({ jwt: { secret } }))).find(
      ({ component }) => component === "embedded",
    );
    assert.ok(pod !== undefined);
    const secrets = { "parley-jwt/jwt-secret": secret };
    const given = environment(container(pod), { name: "parley-0", ip: address, secrets });
    const env = { ...given, PARLEY_DATA: places["/data"], PARLEY_MESH_HOST: address };
    const run = entered(container(pod).args ?? [], {
      ...env,
      PARLEY_HOST: address,
      PARLEY_METRICS_HOST: address,
    });
    try {
      await asked(60_000, "an answer", async () => {
        if (run.child.exitCode !== null) throw new Error(run.said);
        const ready = await fetch(`http://${address}:8080/readyz`).catch(() => undefined);
        return ready?.status === 200 ? true : undefined;
      });
      const page = await fetch(`http://${address}:8080/`);
      assert.equal(page.status, 200);
      assert.match(await page.text(), /<script type="module"/);
      run.child.kill("SIGTERM");
      assert.equal(await within(60_000, "its end", run.end), 0, run.said);
    } finally {
      run.child.kill("SIGKILL");
    }
    assert.notDeepEqual(await readdir(places["/data"]), []);
  });
});

interface Entered {
  readonly child: ReturnType<typeof spawn>;
  readonly said: string;
  readonly end: Promise<number | null>;
}
