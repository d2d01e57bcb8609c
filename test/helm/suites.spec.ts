/** The chart's own suites (helm/parley/tests): helm-unittest passes them, and they find what is taken out of the chart. */
import assert from "node:assert/strict";
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { newFolder } from "../support/parley.ts";
import { chart } from "./chart.ts";
import { type Said, runs, tool } from "./tools.ts";

const { folder = "", lack } = await tool("checks");
if (lack !== "") console.log(`skipped: ${lack}`);

const suites = (of: string): Promise<Said> => runs(join(folder, "helm-unittest"), ["--strict", of]);

/** What is planted, the file, what is there, and what is put in its place. */
const planted: readonly (readonly [string, string, string, string])[] = [
  ["no probe by gRPC", "_pod.tpl", "grpc: { port: 9090 }", "httpGet: { path: /, port: health }"],
  ["a termination time without the drain", "_pod.tpl", "(div (add $v.drainMs 999) 1000)", "0"],
  ["no wait before the end", "_pod.tpl", "preStop: { sleep:", "postStart: { sleep:"],
  ["a token in pods", "_pod.tpl", "automountServiceAccountToken: false", "hostIPC: false"],
  ["a root that can be written", "_pod.tpl", "readOnlyRootFilesystem: true", "privileged: false"],
  [
    "pods of a kind on one node",
    "_pod.tpl",
    "topologyKey: kubernetes.io/hostname",
    "namespaces: []",
  ],
  [
    "pods of a kind in one zone",
    "_pod.tpl",
    "topologyKey: topology.kubernetes.io/zone",
    "topologyKey: a",
  ],
  ["budgets of nobody", "disruption.yaml", "maxUnavailable: {{", "minAvailable: {{"],
  ["gateways scaled by another metric", "autoscaling.yaml", "parley_gateway_connections", "up"],
  ["a quick way down", "autoscaling.yaml", "stabilizationWindowSeconds: 900", ""],
  [
    "a number against the autoscaler",
    "processes.yaml",
    "{{- if not $own.autoscaling.enabled }}",
    "{{- if true }}",
  ],
  ["an open mesh", "network.yaml", "ports: [{ port: mesh }]", "ports: []"],
  [
    "all pods open to clients",
    "network.yaml",
    'component: {{ include "parley.edge" . }}',
    "name: parley",
  ],
  ["a token for accounts", "accounts.yaml", "automountServiceAccountToken: false", ""],
  [
    "no monitor of the metrics port",
    "monitoring.yaml",
    "port: metrics, path: /metrics",
    "port: http",
  ],
  ["a route that ends WebSockets", "ingress.yaml", "request: 0s", "request: 15s"],
  ["certificates of another name", "secrets.yaml", "[parley.mesh]", "[parley]"],
  [
    "a schema that comes after",
    "migrate.yaml",
    "pre-install,pre-upgrade",
    "post-install,post-upgrade",
  ],
  ["no test", "tests/answers.yaml", "helm.sh/hook: test", "helm.sh/hook: post-install"],
  ["stores that nobody asked for", "development.yaml", ".Values.development.enabled", "true"],
];

describe("the chart's suites", () => {
  before(function () {
    if (lack !== "") this.skip();
  });

  it("pass", async () => {
    const { code, output, errors } = await suites(chart);
    assert.equal(code, 0, output + errors);
    assert.match(output, /Test Suites: [1-9]\d* passed, [1-9]\d* total/);
  });

  for (const [name, file, from, to] of planted) {
    it(`find ${name}`, async () => {
      const place = await newFolder();
      try {
        await cp(chart, place.path, { recursive: true });
        const path = join(place.path, "templates", file);
        const text = await readFile(path, "utf8");
        assert.ok(text.includes(from), `${file} has no ${from}`);
        await writeFile(path, text.replaceAll(from, to));
        const { code, output } = await suites(place.path);
        assert.notEqual(code, 0, output);
        assert.match(output, /Tests: .*[1-9]\d* failed/);
      } finally {
        await place.remove();
      }
    });
  }
});
