/** gRPC's health service, for load balancers, orchestrators and people with a command line. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { HandlerContext } from "@connectrpc/connect";
import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from "../../proto/gen/grpc/health/v1/health_pb.ts";
import type {
  HealthCheckRequest,
  HealthCheckResponse,
} from "../../proto/gen/grpc/health/v1/health_pb.ts";
import { sleep, systemClock } from "../clock.ts";
import type { Clock } from "../clock.ts";
import type { Handlers } from "../handlers.ts";

/** How often a watched service is looked at. */
const everyMs = 500;

/**
 * Serves the health of all that the handlers have and will have. `problems` says why a service cannot serve now (the empty name: the whole
 * process); where it says nothing, it serves.
 */
export function addHealth(
  handlers: Handlers,
  problems: (service: string) => readonly string[],
  clock: Clock = systemClock,
): void {
  const names = (): string[] => ["", ...handlers.services.map(({ typeName }) => typeName)];

  function look(service: string): Serving {
    if (!names().includes(service)) return Serving.SERVICE_UNKNOWN;
    return problems(service).length === 0 ? Serving.SERVING : Serving.NOT_SERVING;
  }

  async function* watch(
    { service }: HealthCheckRequest,
    { signal }: HandlerContext,
  ): AsyncGenerator<HealthCheckResponse, void> {
    let told: Serving | undefined;
    for (;;) {
      const status = look(service);
      if (status !== told) yield answer(status);
      told = status;
      await sleep(clock, everyMs, signal);
    }
  }

  handlers.add(Health, {
    check({ service }) {
      const status = look(service);
      if (status === Serving.SERVICE_UNKNOWN)
        throw new ConnectError(`no service ${service} is served here`, Code.NotFound);
      return answer(status);
    },
    list: () => ({
      statuses: Object.fromEntries(names().map((name) => [name, answer(look(name))])),
    }),
    watch,
  });
}

function answer(status: Serving): HealthCheckResponse {
  return { $typeName: "grpc.health.v1.HealthCheckResponse", status };
}
