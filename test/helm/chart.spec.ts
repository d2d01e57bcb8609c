/** The chart: Helm accepts it and its values, Kubernetes' schemas accept what it makes, and what it makes changes only on purpose (UPDATE=1 writes golden/ anew). */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root, textOf } from "../support/tree.ts";
import { chart, container, helm, manifests, pods, rendered } from "./chart.ts";
import { runs, tool } from "./tools.ts";
import { kept, matrix, refused } from "./values.ts";

/** Kinds that others than Kubernetes define; the API server of kubernetes.spec.ts knows them. */
const foreign = new Set(["Certificate", "HTTPRoute", "ServiceMonitor", "PrometheusRule"]);

const { lack } = await tool("helm");
const schemas = await tool("schemas");
const checks = await tool("checks");
for (const one of [lack, schemas.lack, checks.lack]) if (one !== "") console.log(`skipped: ${one}`);
const schemasLack = schemas.lack + checks.lack;

describe("the chart", () => {
  before(function () {
    if (lack !== "") this.skip();
  });

  for (const [name, values] of Object.entries(matrix)) {
    it(`${name}: Helm finds no fault`, async () => {
      const { code, output, errors } = await helm(["lint", chart, "--strict"], values);
      assert.equal(code, 0, output + errors);
    });

    it(`${name}: Kubernetes' schemas accept all of it`, async function () {
      if (schemasLack !== "") return this.skip();
      assert.deepEqual(await faults(await rendered(values)), []);
    });

    it(`${name}: pods are confined, and are given no setting by Kubernetes`, async () => {
      for (const pod of pods(manifests(await rendered(values)))) {
        const { spec, of } = pod;
        // A Service called parley would set PARLEY_PORT, of which no process could make sense.
        assert.equal(spec.enableServiceLinks, false, of);
        assert.equal(spec.automountServiceAccountToken, false, of);
        assert.equal(spec.securityContext?.runAsNonRoot, true, of);
        const { securityContext } = container(pod);
        assert.equal(securityContext?.allowPrivilegeEscalation, false, of);
        if (["etcd", "cassandra"].includes(pod.component)) continue;
        assert.equal(securityContext?.readOnlyRootFilesystem, true, of);
      }
    });
  }

  for (const [name, values, why] of refused) {
    it(`refuses ${name}`, async () => {
      await assert.rejects(rendered(values), why);
    });
  }

  for (const name of kept) {
    it(`${name} is as it was`, async () => {
      const path = `test/helm/golden/${name}.yaml`;
      const text = withoutFiles(await rendered(matrix[name] ?? {}));
      if (process.env["UPDATE"] !== undefined) writeFileSync(join(root, path), text);
      assert.deepEqual(manifests(text), manifests(textOf(path)));
    });
  }

  it("lets others reach the clients' port alone", async () => {
    for (const name of ["embedded", "cluster", "cluster-development"]) {
      const all = manifests(await rendered(matrix[name] ?? {}));
      const open = all
        .filter(({ kind }) => kind === "NetworkPolicy")
        .flatMap(({ spec }) => openPorts(spec));
      assert.deepEqual(open, ["clients"], name);
    }
  });

  it("has the product's version", () => {
    const { version } = JSON.parse(textOf("package.json")) as { version: string };
    assert.match(
      readFileSync(join(chart, "Chart.yaml"), "utf8"),
      new RegExp(`appVersion: "${version}"`),
    );
  });
});

describe("Kubernetes' schemas", () => {
  it("find a field that there is not, and a wrong type", async function () {
    if (schemasLack !== "") return this.skip();
    const service = (spec: object): string =>
      JSON.stringify({ apiVersion: "v1", kind: "Service", metadata: { name: "a" }, spec });
    assert.deepEqual(await faults(service({ ports: [{ port: 80 }] })), []);
    assert.notDeepEqual(await faults(service({ ports: [{ port: "80" }] })), []);
    assert.notDeepEqual(await faults(service({ port: 80 })), []);
  });
});

/** The text without what is in the chart's files: those have tests of their own, and change by themselves. */
function withoutFiles(text: string): string {
  const cut = (all: string, name: string, pad: string): string => {
    const content = textOf(`helm/parley/files/${name}`).trimEnd();
    return all.replaceAll(pad + content.replaceAll("\n", `\n${pad}`), `${pad}# ${name}`);
  };
  return cut(cut(text, "rules.yaml", "  "), "dashboard.json", "    ");
}

/** Ports that a network policy opens to all. */
function openPorts(spec: unknown): string[] {
  const { ingress } = spec as { ingress: { from?: unknown; ports?: { port: string }[] }[] };
  return ingress
    .filter(({ from }) => from === undefined)
    .flatMap(({ ports = [{ port: "all" }] }) => ports.map(({ port }) => port));
}

/** What the schemas have against a text. */
async function faults(text: string): Promise<string[]> {
  const place = await mkdtemp(join(tmpdir(), "parley-test-"));
  try {
    const file = join(place, "all.yaml");
    const ours = manifests(text).filter(({ kind }) => !foreign.has(kind));
    await writeFile(file, ours.map((one) => JSON.stringify(one)).join("\n---\n"));
    const location = join(schemas.folder ?? "", "{{.ResourceKind}}{{.KindSuffix}}.json");
    const args = ["-strict", "-schema-location", location, file];
    const { code, output, errors } = await runs(join(checks.folder ?? "", "kubeconform"), args);
    return code === 0 ? [] : [output + errors];
  } finally {
    await rm(place, { recursive: true, force: true });
  }
}
