/** How commands of operators reach a gateway's gRPC: where it is, with what certificates, and what to do where it is not there. */
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { type Command, Option } from "commander";
import { systemClock } from "../mesh/clock.ts";
import type { CertificateFiles } from "../mesh/grpc/certificates.ts";
import { type MeshCredentials, meshCredentials } from "../mesh/grpc/tls.ts";
import { createGrpcTransport } from "../mesh/grpc/transport.ts";
import { createLog } from "../mesh/log.ts";
import { GatewayService } from "../proto/gen/parley/gateway/v1/gateway_pb.ts";

/** Options of every command that asks a gateway. */
export interface OperatorOptions {
  readonly mesh: string;
  readonly tlsCertFile?: string;
  readonly tlsKeyFile?: string;
  readonly tlsCaFile?: string;
  readonly json?: true;
}

/** What listens everywhere is reached on this machine. */
const everywhere: Readonly<Record<string, string>> = { "0.0.0.0": "127.0.0.1", "::": "[::1]" };

export function withMesh(command: Command): Command {
  const { PARLEY_MESH_HOST, PARLEY_MESH_PORT } = process.env;
  const host = PARLEY_MESH_HOST ?? "127.0.0.1";
  const address = `${everywhere[host] ?? host}:${PARLEY_MESH_PORT ?? "9090"}`;
  const file = (flag: string, setting: string, what: string): Option =>
    new Option(`${flag} <file>`, what).env(setting);
  return command
    .option(
      "--mesh <host:port>",
      "a gateway's gRPC, any will do (or set PARLEY_MESH_HOST and PARLEY_MESH_PORT)",
      address,
    )
    .addOption(
      file("--tls-cert-file", "PARLEY_TLS_CERT_FILE", "a certificate of the mesh, for mTLS"),
    )
    .addOption(file("--tls-key-file", "PARLEY_TLS_KEY_FILE", "its key"))
    .addOption(file("--tls-ca-file", "PARLEY_TLS_CA_FILE", "the authority of the mesh"))
    .option("--json", "print the answer as JSON")
    .helpGroup("For operators:");
}

/** Asks the gateway; where that fails, the error says what to do. */
export async function asked<T>(
  options: OperatorOptions,
  ask: (gateway: Client<typeof GatewayService>) => Promise<T>,
): Promise<T> {
  const tls = tlsOf(options);
  const credentials = tls === undefined ? {} : { credentials: tls.channel };
  const transport = createGrpcTransport({ address: options.mesh, ...credentials });
  try {
    return await ask(createClient(GatewayService, transport));
  } catch (error) {
    throw explained(options, ConnectError.from(error));
  } finally {
    transport.close();
    tls?.close();
  }
}

function tlsOf({
  tlsCertFile: certFile,
  tlsKeyFile: keyFile,
  tlsCaFile: caFile,
}: OperatorOptions): MeshCredentials | undefined {
  const given = [certFile, keyFile, caFile].filter((file) => file !== undefined && file !== "");
  if (given.length === 0) return undefined;
  if (certFile === undefined || keyFile === undefined || caFile === undefined || given.length < 3)
    throw new Error("--tls-cert-file, --tls-key-file and --tls-ca-file belong together");
  const files: CertificateFiles = { certFile, keyFile, caFile };
  const log = createLog({ level: "warn", to: process.stderr });
  return meshCredentials(files, { log, clock: systemClock });
}

function explained({ mesh }: OperatorOptions, error: ConnectError): Error {
  switch (error.code) {
    case Code.Unimplemented:
      return new Error(`what listens at ${mesh} is no gateway: name the gRPC of one by --mesh`);
    case Code.Unavailable:
      return new Error(
        `${mesh}: ${error.rawMessage.replace(/\. Resolution note:.*$/, "")}. Is it a gateway's gRPC, and with TLS or without, as asked? --mesh names another`,
      );
    default:
      return new Error(error.rawMessage);
  }
}
