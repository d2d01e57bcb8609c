/** The chart on a real API server: every object accepted, installed, tested, upgraded, rolled back, removed, in both modes; what fails takes nothing away. */
import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import { asked } from "../support/within.ts";
import { type Values, chart, helm, manifests, rendered } from "./chart.ts";
import { Kubernetes } from "./kubernetes.ts";
import { tool } from "./tools.ts";
import { matrix } from "./values.ts";

const tools = await Promise.all([tool("helm"), tool("crds"), tool("kubernetes")]);
const lacks = tools.map(({ lack }) => lack).filter((lack) => lack !== "");
for (const why of lacks) console.log(`skipped: ${why}`);
const crds = tools[1].folder ?? "";

const network = process.env["TEST_NETWORK"] ?? "127.40";
const namespace = "chat";
const kinds = ["gateway", "session", "delivery", "presence", "storage"];
const waits = ["--wait", "--timeout", "180s"];

describe("the chart on Kubernetes", function () {
  this.timeout(10 * 60_000);
  let kubernetes: Kubernetes;

  before(async function () {
    if (lacks.length > 0) return this.skip();
    kubernetes = await Kubernetes.start(`${network}.3.1`);
    // Pods that are less confined than Kubernetes' strictest standard asks for are refused.
    const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
    await kubernetes.make("/api/v1/namespaces", { metadata: { name: namespace, labels } });
    for (const name of await readdir(crds)) await define(join(crds, name));
    await disk("media", "ReadWriteMany");
    const resources = { requests: { storage: "1Gi" } };
    await kubernetes.make(Kubernetes.pathOf("v1", "PersistentVolumeClaim", namespace), {
      metadata: { name: "media" },
      spec: { accessModes: ["ReadWriteMany"], volumeName: "media", resources },
    });
  });
  after(() => kubernetes?.stop());

  /** A kind that others than Kubernetes define, until it is known. */
  async function define(path: string): Promise<void> {
    const all = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    const crd = (await kubernetes.make(all, parse(await readFile(path, "utf8")) as object)) as Crd;
    const { group, versions, names } = crd.spec;
    const own = `/apis/${group}/${versions[0]?.name ?? ""}/${names.plural}`;
    await asked(60_000, own, () => kubernetes.get(own));
  }

  const disk = (name: string, mode: string): Promise<unknown> =>
    kubernetes.make("/api/v1/persistentvolumes", {
      metadata: { name },
      spec: {
        accessModes: [mode],
        capacity: { storage: "10Gi" },
        hostPath: { path: `/${name}` },
      },
    });

  async function does(args: readonly string[], values?: Values): Promise<string> {
    const { code, output, errors } = await tries(args, values);
    assert.equal(code, 0, `helm ${args.join(" ")}: ${output}${errors}`);
    return output;
  }
  const tries = (args: readonly string[], values?: Values): ReturnType<typeof helm> =>
    helm([...args, "--namespace", namespace], values, kubernetes.env);

  const one = (apiVersion: string, kind: string, name: string): Promise<unknown> =>
    kubernetes.get(`${Kubernetes.pathOf(apiVersion, kind, namespace)}/${name}`);
  const workload = async (kind: "Deployment" | "StatefulSet", name: string): Promise<Workload> => {
    const found = await one("apps/v1", kind, name);
    assert.ok(found !== undefined, name);
    return found as Workload;
  };
  const imageOf = ({ spec }: Workload): string => spec.template.spec.containers[0]?.image ?? "";
  const podsOf = async (component: string): Promise<readonly Pod[]> => {
    const selector = `labelSelector=app.kubernetes.io%2Fcomponent%3D${component}`;
    const path = Kubernetes.pathOf("v1", "Pod", namespace);
    return ((await kubernetes.get(`${path}?${selector}`)) as { items: Pod[] }).items;
  };

  for (const [name, values] of Object.entries(matrix)) {
    it(`${name}: the API server takes every object as it is`, async () => {
      for (const object of manifests(await rendered(values))) {
        const path = Kubernetes.pathOf(object.apiVersion, object.kind, namespace);
        await kubernetes.make(`${path}?dryRun=All&fieldValidation=Strict`, object);
      }
    });
  }

  it("refuses an object with a field that there is not", async () => {
    const [apiVersion, kind] = ["gateway.networking.k8s.io/v1", "HTTPRoute"];
    const object = { apiVersion, kind, metadata: { name: "a" }, spec: { hosts: ["a"] } };
    const path = Kubernetes.pathOf(apiVersion, kind, namespace);
    const made = kubernetes.make(`${path}?dryRun=All&fieldValidation=Strict`, object);
    await assert.rejects(made, /unknown field .*spec\.hosts/);
  });

  describe("a cluster", () => {
    const first = { ...matrix["cluster"] };

    it("is installed: every kind is ready, on different nodes, without a token or a right; its test passes", async () => {
      await does(["install", "parley", chart, ...waits], first);
      for (const kind of kinds) {
        const { status } = await workload("Deployment", `parley-${kind}`);
        assert.equal(status.readyReplicas, 2, kind);
        const pods = await podsOf(kind);
        assert.equal(new Set(pods.map(({ spec }) => spec.nodeName)).size, 2, kind);
        for (const { spec } of pods)
          assert.ok(!spec.volumes.some((volume) => "projected" in volume), kind);
        assert.equal(await mayReadSecrets(`parley-${kind}`), false, kind);
      }
      assert.match(await does(["test", "parley"]), /Phase: +Succeeded/);
    });

    it("is upgraded and rolled back", async () => {
      const second = { ...first, image: { tag: "9.9.9" }, session: { replicas: 4 } };
      await does(["upgrade", "parley", chart, ...waits], second);
      const upgraded = await workload("Deployment", "parley-session");
      assert.equal(upgraded.status.readyReplicas, 4);
      assert.equal(imageOf(upgraded), "parley:9.9.9");
      assert.match(await does(["test", "parley"]), /Phase: +Succeeded/);

      await does(["rollback", "parley", "1", ...waits]);
      const back = await workload("Deployment", "parley-session");
      assert.equal(back.spec.replicas, 2);
      assert.notEqual(imageOf(back), "parley:9.9.9");
    });

    it("stays as it is where the schema cannot be made", async () => {
      const nowhere = { nodeSelector: { pool: "none" }, migrate: { seconds: 2 } };
      const values = { ...first, ...nowhere, image: { tag: "9.9.8" } };
      const { code, errors } = await tries(["upgrade", "parley", chart, ...waits], values);
      assert.notEqual(code, 0);
      assert.match(errors, /pre-upgrade/);
      for (const kind of kinds) {
        const left = await workload("Deployment", `parley-${kind}`);
        assert.equal(left.status.readyReplicas, 2, kind);
        assert.notEqual(imageOf(left), "parley:9.9.8", kind);
      }
    });

    it("serves on while an upgrade cannot come up, and goes back", async () => {
      const resources = { requests: { cpu: "999" } };
      const values = { ...first, session: { resources } };
      const args = ["upgrade", "parley", chart, "--rollback-on-failure", "--timeout", "10s"];
      const ended = tries(args, values);
      await asked(60_000, "a pod that has no place", async () =>
        (await podsOf("session")).length > 2 ? true : undefined,
      );
      const during = await workload("Deployment", "parley-session");
      assert.equal(during.status.readyReplicas, 2);
      assert.notEqual((await ended).code, 0);
      await asked(60_000, "the way back", async () =>
        (await podsOf("session")).length === 2 ? true : undefined,
      );
      const back = await workload("Deployment", "parley-session");
      assert.equal(back.status.readyReplicas, 2);
      assert.equal(JSON.stringify(back.spec).includes("999"), false);
    });

    it("is removed, all of it", async () => {
      await does(["uninstall", "parley", "--wait"]);
      for (const { apiVersion, kind, metadata } of manifests(await rendered(first)))
        assert.equal(await one(apiVersion, kind, metadata.name), undefined, metadata.name);
    });
  });

  it("a cluster with all that there is, and one with its own stores, are installed, tested and removed", async () => {
    for (const name of ["cluster-all", "cluster-development"]) {
      const own = { nodeSelector: {}, priorityClassName: "" };
      const values = { ...matrix[name], ...own };
      await does(["install", "parley", chart, ...waits, "--wait-for-jobs"], values);
      assert.match(await does(["test", "parley"]), /Phase: +Succeeded/);
      await does(["uninstall", "parley", "--wait"]);
    }
  });

  it("one process is installed, tested, upgraded, rolled back and removed, and its volume stays", async () => {
    const values = matrix["embedded"] ?? {};
    await disk("disk", "ReadWriteOnce");
    const claim = async (): Promise<Claim> =>
      (await one("v1", "PersistentVolumeClaim", "data-one-parley-0")) as Claim;
    await does(["install", "one-parley", chart, ...waits], values);
    assert.equal((await workload("StatefulSet", "one-parley")).status.readyReplicas, 1);
    assert.equal((await claim()).spec.volumeName, "disk");
    assert.match(await does(["test", "one-parley"]), /Phase: +Succeeded/);

    await does(["upgrade", "one-parley", chart, ...waits], { ...values, image: { tag: "9.9.9" } });
    const upgraded = await workload("StatefulSet", "one-parley");
    assert.equal(imageOf(upgraded), "parley:9.9.9");
    assert.equal(upgraded.status.readyReplicas, 1);
    await does(["rollback", "one-parley", "1", ...waits]);
    assert.notEqual(imageOf(await workload("StatefulSet", "one-parley")), "parley:9.9.9");

    await does(["uninstall", "one-parley", "--wait"]);
    assert.equal(await one("apps/v1", "StatefulSet", "one-parley"), undefined);
    assert.equal((await claim()).spec.volumeName, "disk");
  });

  /** Stands for all rights: who may do that may do most. */
  async function mayReadSecrets(account: string): Promise<boolean> {
    const user = `system:serviceaccount:${namespace}:${account}`;
    const resourceAttributes = { namespace, verb: "get", resource: "secrets" };
    const path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    const review = await kubernetes.make(path, { spec: { user, resourceAttributes } });
    return (review as { status: { allowed: boolean } }).status.allowed;
  }
});

interface Workload {
  readonly spec: {
    readonly replicas: number;
    readonly template: { readonly spec: { readonly containers: readonly { image: string }[] } };
  };
  readonly status: { readonly readyReplicas?: number };
}

interface Pod {
  readonly spec: { readonly nodeName?: string; readonly volumes: readonly object[] };
}

interface Claim {
  readonly spec: { readonly volumeName?: string };
}

interface Crd {
  readonly spec: {
    readonly group: string;
    readonly versions: readonly { readonly name: string }[];
    readonly names: { readonly plural: string };
  };
}
