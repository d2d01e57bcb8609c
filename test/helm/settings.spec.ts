/** What the chart says to the processes is what they understand: each container's command takes exactly the settings that the chart gives it, and listens where its ports and probes are. */
import assert from "node:assert/strict";
import { migrateSettings, serviceCommands } from "../../cli/processes.ts";
import { parleyConfig, parleySettings } from "../../embedded/index.ts";
import { EnvReader, type Setting } from "../../mesh/env.ts";
import { cassandraConfig } from "../../storage/index.ts";
import { type Container, type Pod, container, manifests, pods, rendered } from "./chart.ts";
import { environment, portOf } from "./pod.ts";
import { tool } from "./tools.ts";
import { matrix } from "./values.ts";

const { lack } = await tool("helm");
if (lack !== "") console.log(`skipped: ${lack}`);

const facts = {
  name: "parley-0",
  ip: "10.1.2.3",
  secrets: {
    "parley-jwt/jwt-secret": "a secret for tests, of 32 bytes at least",
    "tokens/jwt-secret": "a secret for tests, of 32 bytes at least",
    "etcd/username": "parley",
    "etcd/password": "a password",
    "cassandra/username": "parley",
    "cassandra/password": "a password",
    "media/access-key-id": "a key",
    "media/secret-access-key": "its secret",
  },
};

/** Which settings have the port of a container's port of that name. */
const portSettings = {
  clients: "PARLEY_PORT",
  mesh: "PARLEY_MESH_PORT",
  health: "PARLEY_HEALTH_PORT",
  metrics: "PARLEY_METRICS_PORT",
} as const;

interface Command {
  readonly settings: readonly Setting[];
  /** Throws where the process would not start. */
  check(values: Readonly<Record<string, string>>): void;
}

const services = await serviceCommands();

function commandOf({ args = [] }: Container): Command {
  const [verb] = args;
  if (verb === "start")
    return { settings: parleySettings(), check: (values) => void parleyConfig(values) };
  if (verb === "migrate")
    return {
      settings: migrateSettings(),
      check(values) {
        const read = new EnvReader(values, "PARLEY_");
        read.done(cassandraConfig(read));
      },
    };
  const service = services.find(({ name }) => name === verb);
  if (service === undefined) throw new Error(`no command ${verb ?? "at all"}`);
  return { settings: service.settings, check: (values) => void service.configured(values) };
}

const ours = (all: readonly Pod[]): Pod[] =>
  all.filter(({ component }) => !["etcd", "cassandra", "test"].includes(component));

const settingsOf = (one: Container): Record<string, string> =>
  Object.fromEntries(
    Object.entries(environment(one, facts)).filter(([name]) => name.startsWith("PARLEY_")),
  );

describe("the chart's settings", () => {
  before(function () {
    if (lack !== "") this.skip();
  });

  for (const [name, values] of Object.entries(matrix)) {
    describe(name, () => {
      let all: Pod[];
      before(async () => {
        all = ours(pods(manifests(await rendered(values))));
      });

      it("are settings of the command that they are given to, and their values are right", () => {
        assert.ok(all.length > 0);
        for (const pod of all) {
          const command = commandOf(container(pod));
          const given = settingsOf(container(pod));
          const known = new Set(command.settings.map((setting) => setting.name));
          const unknown = Object.keys(given).filter((one) => !known.has(one));
          assert.deepEqual(unknown, [], pod.of);
          assert.doesNotThrow(() => command.check(given), pod.of);
        }
      });

      it("name the ports that are the container's, and each port has a setting", () => {
        for (const pod of all) {
          const one = container(pod);
          const given = settingsOf(one);
          for (const { name: port, containerPort } of one.ports ?? []) {
            const setting = Object.entries(portSettings).find(([key]) => key === port)?.[1] ?? port;
            assert.equal(given[setting], String(containerPort), `${pod.of}: ${port}`);
          }
          for (const probe of [one.livenessProbe, one.readinessProbe]) {
            const port = probe?.httpGet?.port ?? probe?.grpc?.port;
            if (port === undefined) continue;
            const numbers = (one.ports ?? []).map(({ containerPort }) => containerPort);
            assert.ok(numbers.includes(portOf(one, port)), `${pod.of}: a probe at ${port}`);
          }
        }
      });

      it("leave time enough to end: what waits before, the drain, and what the end takes besides", () => {
        for (const { of, component, spec } of all) {
          if (component === "migrate") continue;
          const [one] = spec.containers;
          assert.ok(one !== undefined);
          const drainSeconds = Number(settingsOf(one)["PARLEY_DRAIN_MS"]) / 1_000;
          const leaveSeconds = one.lifecycle?.preStop?.sleep?.seconds ?? 0;
          const boundSeconds = leaveSeconds + drainSeconds + endSeconds;
          assert.ok((spec.terminationGracePeriodSeconds ?? 0) > boundSeconds, of);
        }
      });
    });
  }

  it("are held against the commands: one of another's is found", async () => {
    const values = { ...matrix["cluster"], session: { settings: { PARLEY_WAITING_MAX: 5 } } };
    const all = ours(pods(manifests(await rendered(values))));
    const session = all.find(({ component }) => component === "session");
    assert.ok(session !== undefined);
    const command = commandOf(container(session));
    assert.throws(() => command.check(settingsOf(container(session))), /PARLEY_WAITING_MAX/);
  });
});

/** Of a process's end, without the drain: mesh/process.ts. */
const endSeconds = 15;
