/** TLS to a server that is none of the mesh's: the authority that it is known by, and the certificate that this process shows, from files. */
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import type { SecureContext } from "node:tls";
import type { Logger } from "pino";
import type { EnvReader } from "./env.ts";

/** PEM each. */
export interface ClientTlsFiles {
  /** Undefined: the authorities that all the world trusts. */
  readonly caFile: string | undefined;
  /** Undefined, both: no certificate is shown. */
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
}

/** Undefined: none is set. */
export function readClientTls(
  read: EnvReader,
  prefix: string,
  whom: string,
): ClientTlsFiles | undefined {
  const files = {
    caFile: read.optional(
      `${prefix}_CA_FILE`,
      `a PEM file: the authority of ${whom}'s certificates, for TLS; read again with each connection, like the next two`,
    ),
    certFile: read.optional(
      `${prefix}_CERT_FILE`,
      `a PEM file: the certificate to show to ${whom}; empty: none`,
    ),
    keyFile: read.optional(`${prefix}_KEY_FILE`, "a PEM file: its key"),
  };
  if ((files.certFile === undefined) !== (files.keyFile === undefined))
    read.wrong(
      `PARLEY_${prefix}_CERT_FILE and PARLEY_${prefix}_KEY_FILE belong together: set both or none`,
    );
  return Object.values(files).every((file) => file === undefined) ? undefined : files;
}

export class ClientTls {
  readonly #files: ClientTlsFiles;
  readonly #log: Logger;
  #context: SecureContext | undefined;
  #told = "";

  constructor(files: ClientTlsFiles, log: Logger) {
    this.#files = files;
    this.#log = log;
  }

  /** What the files have now, or had when they were last of use. Throws a sentence where they never were. */
  get context(): SecureContext {
    try {
      this.#context = contextOf(this.#files);
      this.#told = "";
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (this.#context === undefined) throw new Error(reason, { cause: error });
      if (reason !== this.#told) this.#log.warn(`${reason}; what was there before stays in use`);
      this.#told = reason;
    }
    return this.#context;
  }
}

function contextOf({ caFile, certFile, keyFile }: ClientTlsFiles): SecureContext {
  const pem = {
    ...(caFile === undefined ? {} : { ca: read(caFile) }),
    ...(certFile === undefined ? {} : { cert: read(certFile) }),
    ...(keyFile === undefined ? {} : { key: read(keyFile) }),
  };
  const files = [caFile, certFile, keyFile].filter((file) => file !== undefined).join(", ");
  return parsed(files, () => createSecureContext(pem));
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`${file} cannot be read: ${reason}`, { cause: error });
  }
}

function parsed<T>(files: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`${files} cannot be used: ${reason}`, { cause: error });
  }
}
