/** How a command of operators reaches the gRPC port of a process: plain, or with a certificate of the mesh. */
import { type Command, Option } from "commander";
import type { Logger } from "pino";
import { meshCredentials } from "../mesh/grpc/tls.ts";
import { createGrpcTransport, type GrpcTransport } from "../mesh/grpc/transport.ts";

export interface MeshOptions {
  readonly mesh: string;
  readonly tlsCertFile?: string;
  readonly tlsKeyFile?: string;
  readonly tlsCaFile?: string;
}

/** `whose`: of which processes any will do. */
export function withMesh(command: Command, whose: string): Command {
  const file = (flag: string, what: string, name: string): Option =>
    new Option(`${flag} <file>`, what).env(name);
  return command
    .addOption(
      new Option(
        "--mesh <address>",
        `the gRPC port of ${whose}, or of the one process of \`parley start\``,
      )
        .env("PARLEY_MESH")
        .default("127.0.0.1:9090"),
    )
    .addOption(file("--tls-cert-file", "a certificate for the mesh", "PARLEY_TLS_CERT_FILE"))
    .addOption(file("--tls-key-file", "its key", "PARLEY_TLS_KEY_FILE"))
    .addOption(file("--tls-ca-file", "the mesh's authority", "PARLEY_TLS_CA_FILE"));
}

export async function overMesh<T>(
  options: MeshOptions,
  log: Logger,
  run: (transport: GrpcTransport) => Promise<T>,
): Promise<T> {
  const { mesh: address, tlsCertFile: certFile, tlsKeyFile: keyFile, tlsCaFile: caFile } = options;
  const secure =
    certFile !== undefined && keyFile !== undefined && caFile !== undefined
      ? meshCredentials({ certFile, keyFile, caFile }, { log })
      : undefined;
  const transport = createGrpcTransport(
    secure === undefined ? { address } : { address, credentials: secure.channel },
  );
  try {
    return await run(transport);
  } finally {
    transport.close();
    secure?.close();
  }
}
