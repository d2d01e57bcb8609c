/** How commands of operators ask a gateway. */
import { type Client, createClient } from "@connectrpc/connect";
import type { Command } from "commander";
import { GatewayService } from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { type MeshOptions, overMesh, withMesh } from "./mesh.ts";

/** Options of every command that asks a gateway. */
export interface OperatorOptions extends MeshOptions {
  readonly json?: true;
}

export function asksGateway(command: Command): Command {
  return withMesh(command, "any gateway")
    .option("--json", "print the answer as JSON")
    .helpGroup("For operators:");
}

export const asked = <T>(
  options: OperatorOptions,
  ask: (gateway: Client<typeof GatewayService>) => Promise<T>,
): Promise<T> =>
  overMesh(options, "any gateway", (transport) => ask(createClient(GatewayService, transport)));
