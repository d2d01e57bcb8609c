/** The meshes that a service's suite runs over, each time anew. */
import type { DescService } from "@bufbuild/protobuf";
import { pino } from "pino";
import type { ManualClock } from "../../mesh/clock.ts";
import { GrpcMesh } from "../../mesh/grpc/mesh.ts";
import { Identity } from "../../mesh/identity.ts";
import type { Surroundings } from "../../mesh/lifecycle.ts";
import { LocalMesh } from "../../mesh/local.ts";
import type { Mesh } from "../../mesh/mesh.ts";
import type { Peers } from "../../mesh/peers.ts";
import { PeerTable, peerOf } from "../../mesh/peers.ts";
import { seededRandom } from "../../mesh/random.ts";
import { NotedMetrics } from "../support/noted-metrics.ts";

export const meshes: Record<string, () => Promise<Mesh>> = {
  "local mesh": () => Promise.resolve(new LocalMesh({ wire: true })),
  "gRPC mesh": () => GrpcMesh.listen({ log: pino({ level: "silent" }) }),
};

/** Surroundings over a mesh whose warnings are kept, a line of JSON each. Every service has one instance unless `peers` says otherwise. */
export function surroundingsOn(
  mesh: Pick<Mesh, "transport">,
  clock: ManualClock,
  peers: (service: DescService) => Peers | undefined = () => undefined,
  seed = 1,
): Surroundings & { readonly warnings: string[]; readonly metrics: NotedMetrics } {
  const warnings: string[] = [];
  const log = pino({ level: "warn" }, { write: (line: string) => void warnings.push(line) });
  const random = seededRandom(seed);
  const identity = new Identity(random);
  return {
    clock,
    random,
    log,
    metrics: new NotedMetrics(),
    identity,
    transport: (service) => mesh.transport(service),
    peers: (service) =>
      peers(service) ?? new PeerTable([peerOf(identity.id, mesh.transport(service))]),
    warnings,
  };
}
