/** The chart rendered by Helm, as objects: what of Kubernetes' objects the tests look at. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseAllDocuments, stringify } from "yaml";
import { newFolder } from "../support/parley.ts";
import { root } from "../support/tree.ts";
import { type Said, runs, tool } from "./tools.ts";

export const chart = join(root, "helm/parley");

export interface Variable {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: {
    readonly fieldRef?: { readonly fieldPath: string };
    readonly secretKeyRef?: { readonly name: string; readonly key: string };
  };
}

export interface Probe {
  readonly httpGet?: { readonly path: string; readonly port: string | number };
  readonly grpc?: { readonly port: number };
}

export interface Container {
  readonly name: string;
  readonly image: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: readonly Variable[];
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
  readonly livenessProbe?: Probe;
  readonly readinessProbe?: Probe;
  readonly lifecycle?: { readonly preStop?: { readonly sleep?: { readonly seconds: number } } };
  readonly securityContext?: {
    readonly readOnlyRootFilesystem?: boolean;
    readonly allowPrivilegeEscalation?: boolean;
  };
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
}

export interface PodSpec {
  readonly enableServiceLinks?: boolean;
  readonly automountServiceAccountToken?: boolean;
  readonly terminationGracePeriodSeconds?: number;
  readonly securityContext?: { readonly runAsNonRoot?: boolean; readonly runAsUser?: number };
  readonly containers: readonly Container[];
}

interface Meta {
  readonly name: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: Meta;
  readonly spec?: unknown;
}

export interface Pod {
  /** "Deployment/parley-gateway" */
  readonly of: string;
  readonly component: string;
  readonly spec: PodSpec;
}

export type Values = Readonly<Record<string, unknown>>;

/** Runs Helm, with these values in a file where it takes any. */
export async function helm(
  args: readonly string[],
  values?: Values,
  env: Readonly<Record<string, string>> = {},
): Promise<Said> {
  const { folder = "" } = await tool("helm");
  const place = await newFolder();
  try {
    const file = join(place.path, "values.yaml");
    await writeFile(file, stringify(values ?? {}));
    return await runs(
      join(folder, "helm"),
      values === undefined ? args : [...args, "--values", file],
      env,
    );
  } finally {
    await place.remove();
  }
}

/** Throws what Helm says where it refuses. */
export async function rendered(values: Values, release = "parley"): Promise<string> {
  const said = await helm(["template", release, chart, "--namespace", "chat"], values);
  if (said.code !== 0) throw new Error(said.errors);
  return said.output;
}

export function manifests(text: string): Manifest[] {
  return parseAllDocuments(text).flatMap((document) => {
    if (document.errors.length > 0)
      throw new Error(document.errors.map(({ message }) => message).join("\n"));
    const object: unknown = document.toJS();
    if (object === null || object === undefined) return [];
    if (!isManifest(object)) throw new Error(`no object of Kubernetes: ${JSON.stringify(object)}`);
    return [object];
  });
}

/** What runs containers, Helm's hooks among them. */
export function pods(all: readonly Manifest[]): Pod[] {
  return all.flatMap(({ kind, metadata, spec }) => {
    const of = `${kind}/${metadata.name}`;
    const component = metadata.labels?.["app.kubernetes.io/component"] ?? "";
    if (kind === "Pod" && isPodSpec(spec)) return [{ of, component, spec }];
    if (typeof spec !== "object" || spec === null || !("template" in spec)) return [];
    const { template } = spec;
    if (typeof template !== "object" || template === null || !("spec" in template)) return [];
    return isPodSpec(template.spec) ? [{ of, component, spec: template.spec }] : [];
  });
}

/** The container that runs Parley or speaks to it. */
export function container({ of, spec }: Pod): Container {
  const [first] = spec.containers;
  if (first === undefined || spec.containers.length > 1) throw new Error(`${of}: one container`);
  return first;
}

function isManifest(object: unknown): object is Manifest {
  return (
    typeof object === "object" &&
    object !== null &&
    "apiVersion" in object &&
    "kind" in object &&
    "metadata" in object
  );
}

function isPodSpec(spec: unknown): spec is PodSpec {
  return typeof spec === "object" && spec !== null && "containers" in spec;
}
