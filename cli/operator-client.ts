/** How commands of operators ask a gateway, and what they say to do where it does not answer. */
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Command } from "commander";
import { createLog } from "../mesh/log.ts";
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

/** Asks the gateway; where that fails, the error says what to do. */
export async function asked<T>(
  options: OperatorOptions,
  ask: (gateway: Client<typeof GatewayService>) => Promise<T>,
): Promise<T> {
  const { tlsCertFile, tlsKeyFile, tlsCaFile } = options;
  const files = [tlsCertFile, tlsKeyFile, tlsCaFile].filter((file) => file !== undefined);
  if (files.length % 3 !== 0)
    throw new Error("--tls-cert-file, --tls-key-file and --tls-ca-file belong together");
  const log = createLog({ level: "warn", to: process.stderr });
  try {
    return await overMesh(options, log, (transport) =>
      ask(createClient(GatewayService, transport)),
    );
  } catch (error) {
    throw explained(options, error);
  }
}

function explained({ mesh }: OperatorOptions, error: unknown): unknown {
  if (!(error instanceof ConnectError)) return error;
  const said = error.rawMessage.replace(/\. Resolution note:.*$/, "");
  switch (error.code) {
    case Code.Unimplemented:
      return new Error(`what listens at ${mesh} is no gateway: name the gRPC of one by --mesh`);
    case Code.Unavailable:
      return new Error(
        `${mesh}: ${said}. Is it a gateway's gRPC, and with TLS or without, as asked? --mesh names another`,
      );
    default:
      return new Error(said);
  }
}
