/** The chart on a real API server: installed, tested, upgraded, rolled back, removed. */
import assert from "node:assert/strict";
import { type Values, chart, helm } from "./chart.ts";
import { Kubernetes } from "./kubernetes.ts";
import { tool } from "./tools.ts";
import { matrix } from "./values.ts";

const { lack } = await tool("helm");
const kubernetesLack = (await tool("kubernetes")).lack;
const lacks = [lack, kubernetesLack].filter((why) => why !== "");
for (const why of lacks) console.log(`skipped: ${why}`);

const namespace = "chat";

describe("the chart on Kubernetes", function () {
  this.timeout(10 * 60_000);
  let kubernetes: Kubernetes;

  before(async function () {
    if (lacks.length > 0) return this.skip();
    kubernetes = await Kubernetes.start("127.40.3.1");
    await kubernetes.make("/api/v1/namespaces", { metadata: { name: namespace } });
  });
  after(() => kubernetes?.stop());

  async function does(args: readonly string[], values?: Values): Promise<string> {
    const all = [...args, "--namespace", namespace];
    const { code, output, errors } = await helm(all, values, kubernetes.env);
    assert.equal(code, 0, `helm ${args.join(" ")}: ${output}${errors}`);
    return output;
  }

  const deployment = async (name: string): Promise<Deployment | undefined> =>
    (await kubernetes.get(`/apis/apps/v1/namespaces/${namespace}/deployments/${name}`)) as
      Deployment | undefined;

  it("installs a cluster, passes its test, upgrades it, rolls it back, removes it", async () => {
    const first = { ...matrix["cluster"] };
    const second = { ...first, image: { tag: "9.9.9" }, session: { replicas: 4 } };
    const waits = ["--wait", "--timeout", "180s"];
    await does(["install", "parley", chart, ...waits], first);
    for (const kind of ["gateway", "session", "delivery", "presence", "storage"]) {
      const { status } = (await deployment(`parley-${kind}`)) ?? {};
      assert.equal(status?.readyReplicas, 2, kind);
    }
    await does(["test", "parley"]);

    await does(["upgrade", "parley", chart, ...waits], second);
    const upgraded = await deployment("parley-session");
    assert.equal(upgraded?.status.readyReplicas, 4);
    assert.equal(upgraded?.spec.template.spec.containers[0]?.image, "parley:9.9.9");

    await does(["rollback", "parley", "1", ...waits]);
    const back = await deployment("parley-session");
    assert.equal(back?.spec.replicas, 2);
    assert.notEqual(back?.spec.template.spec.containers[0]?.image, "parley:9.9.9");

    await does(["uninstall", "parley"]);
    assert.equal(await deployment("parley-session"), undefined);
  });

  it("installs one process with its volume", async () => {
    const values = matrix["embedded"] ?? {};
    await does(["install", "one-parley", chart], values);
    const path = `/apis/apps/v1/namespaces/${namespace}/statefulsets/one-parley`;
    assert.notEqual(await kubernetes.get(path), undefined);
    await does(["uninstall", "one-parley"]);
  });
});

interface Deployment {
  readonly spec: {
    readonly replicas: number;
    readonly template: { readonly spec: { readonly containers: readonly { image: string }[] } };
  };
  readonly status: { readonly readyReplicas?: number };
}
