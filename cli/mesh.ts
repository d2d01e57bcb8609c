/** How a command of operators reaches the gRPC port of a process, plain or with a certificate of the mesh, and what it says to do where that fails. */
import { Code, ConnectError } from "@connectrpc/connect";
import { type Command, Option } from "commander";
import { createLog } from "../mesh/log.ts";
import { meshCredentials } from "../mesh/grpc/tls.ts";
import { createGrpcTransport, type GrpcTransport } from "../mesh/grpc/transport.ts";

export interface MeshOptions {
  readonly mesh: string;
  readonly tlsCertFile?: string;
  readonly tlsKeyFile?: string;
  readonly tlsCaFile?: string;
}

/** Of which processes any will do. */
type Whose = "any gateway" | "any storage process";

export function withMesh(command: Command, whose: Whose): Command {
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

/** Runs the calls of a command; where they fail, the error says what to do. */
export async function overMesh<T>(
  options: MeshOptions,
  whose: Whose,
  run: (transport: GrpcTransport) => Promise<T>,
): Promise<T> {
  const { mesh: address, tlsCertFile: certFile, tlsKeyFile: keyFile, tlsCaFile: caFile } = options;
  if ([certFile, keyFile, caFile].filter((file) => file !== undefined).length % 3 !== 0)
    throw new Error("--tls-cert-file, --tls-key-file and --tls-ca-file belong together");
  const log = createLog({ level: "warn", to: process.stderr });
  const secure =
    certFile !== undefined && keyFile !== undefined && caFile !== undefined
      ? meshCredentials({ certFile, keyFile, caFile }, { log })
      : undefined;
  const transport = createGrpcTransport(
    secure === undefined ? { address } : { address, credentials: secure.channel },
  );
  try {
    return await run(transport);
  } catch (error) {
    throw explained(address, whose, error);
  } finally {
    transport.close();
    secure?.close();
  }
}

function explained(address: string, whose: Whose, error: unknown): unknown {
  if (!(error instanceof ConnectError)) return error;
  const said = error.rawMessage.replace(/\. Resolution note:.*$/, "");
  switch (error.code) {
    case Code.Unimplemented:
      return new Error(
        `what listens at ${address} does not answer that: name the gRPC port of ${whose} by --mesh`,
      );
    case Code.Unavailable:
      return new Error(
        `${address}: ${said}. Is it the gRPC port of ${whose}, and with TLS or without, as asked? --mesh names another`,
      );
    default:
      return new Error(said);
  }
}
