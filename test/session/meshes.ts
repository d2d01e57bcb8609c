/** The meshes that a service's suite runs over, each time anew. */
import { pino } from "pino";
import type { ManualClock } from "../../mesh/clock.ts";
import { GrpcMesh } from "../../mesh/grpc/mesh.ts";
import type { Surroundings } from "../../mesh/lifecycle.ts";
import { LocalMesh } from "../../mesh/local.ts";
import type { Mesh } from "../../mesh/mesh.ts";
import { seededRandom } from "../../mesh/random.ts";

export const meshes: Record<string, () => Promise<Mesh>> = {
  "local mesh": () => Promise.resolve(new LocalMesh({ wire: true })),
  "gRPC mesh": () => GrpcMesh.listen({ log: pino({ level: "silent" }) }),
};

/** Surroundings over a mesh whose warnings are kept, a line of JSON each. */
export function surroundingsOn(
  mesh: Pick<Mesh, "transport">,
  clock: ManualClock,
): Surroundings & { readonly warnings: string[] } {
  const warnings: string[] = [];
  const log = pino({ level: "warn" }, { write: (line: string) => void warnings.push(line) });
  return {
    clock,
    random: seededRandom(1),
    log,
    transport: (service) => mesh.transport(service),
    warnings,
  };
}
