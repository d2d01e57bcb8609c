/** What a kubelet makes of a container: the environment of its process, where its ports are, how its probes are asked. */
import { createClient } from "@connectrpc/connect";
import { get } from "node:http";
import { systemClock } from "../../mesh/clock.ts";
import { createGrpcTransport } from "../../mesh/grpc/transport.ts";
import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from "../../proto/gen/grpc/health/v1/health_pb.ts";
import type { Container, Probe } from "./chart.ts";

export interface Facts {
  readonly name: string;
  readonly ip: string;
  /** By "name/key". */
  readonly secrets: Readonly<Record<string, string>>;
}

/** The variables as the process sees them: secrets and facts put in, `$(NAME)` of earlier ones replaced. */
export function environment({ env = [] }: Container, facts: Facts): Record<string, string> {
  const values: Record<string, string> = {};
  for (const { name, value, valueFrom } of env) {
    const { fieldRef, secretKeyRef } = valueFrom ?? {};
    if (name in values) throw new Error(`${name} is there twice`);
    if (fieldRef !== undefined) values[name] = fieldOf(fieldRef.fieldPath, facts);
    else if (secretKeyRef !== undefined) values[name] = secretOf(secretKeyRef, facts);
    else
      values[name] = (value ?? "").replaceAll(
        /\$\((\w+)\)/g,
        (all, one: string) => values[one] ?? all,
      );
  }
  return values;
}

function fieldOf(path: string, { name, ip }: Facts): string {
  if (path === "metadata.name") return name;
  if (path === "status.podIP") return ip;
  throw new Error(`no field ${path}`);
}

function secretOf({ name, key }: { name: string; key: string }, { secrets }: Facts): string {
  const secret = secrets[`${name}/${key}`];
  if (secret === undefined) throw new Error(`no key ${key} in secret ${name}`);
  return secret;
}

/** The port of that name. */
export function portOf({ ports = [] }: Container, name: string | number): number {
  if (typeof name === "number") return name;
  const port = ports.find((one) => one.name === name)?.containerPort;
  if (port === undefined) throw new Error(`no port ${name}`);
  return port;
}

/** Undefined: the probe succeeds; else what was answered. */
export async function probed(
  container: Container,
  probe: Probe,
  ip: string,
): Promise<string | undefined> {
  const { httpGet, grpc } = probe;
  if (httpGet !== undefined) {
    const { status, body } = await answer(
      `http://${ip}:${portOf(container, httpGet.port)}${httpGet.path}`,
    );
    return status >= 200 && status < 400 ? undefined : `${status}: ${body}`;
  }
  if (grpc === undefined) throw new Error("a probe of no kind");
  const address = `${ip}:${portOf(container, grpc.port)}`;
  const transport = createGrpcTransport({ address, clock: systemClock });
  try {
    const { status } = await createClient(Health, transport).check({}, { timeoutMs: 2_000 });
    return status === Serving.SERVING ? undefined : `gRPC health: ${status}`;
  } catch (error) {
    return String(error);
  } finally {
    transport.close();
  }
}

function answer(url: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve) => {
    const failed = (error: Error): void => resolve({ status: 0, body: error.message });
    const request = get(url, { agent: false, timeout: 2_000 }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (text: string) => (body += text));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body: body.trim() }));
      response.on("error", failed);
    });
    request.on("timeout", () => request.destroy(new Error(`${url} does not answer`)));
    request.on("error", failed);
  });
}
