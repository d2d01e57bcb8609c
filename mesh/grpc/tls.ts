/** Connections between the services of one mesh, encrypted, each side known to the other by a certificate of one authority. */
import { CallCredentials, ChannelCredentials } from "@grpc/grpc-js";
import type { experimental } from "@grpc/grpc-js";
import { constants } from "node:crypto";
import type { Server as Listener, Socket } from "node:net";
import { checkServerIdentity, connect, createServer } from "node:tls";
import type { TLSSocket } from "node:tls";
import type { Duplex } from "node:stream";
import type { Logger } from "pino";
import { systemClock } from "../clock.ts";
import type { Clock } from "../clock.ts";
import { Certificates, meshName } from "./certificates.ts";
import type { CertificateFiles, Pem } from "./certificates.ts";
import type { Door } from "./door.ts";
import { handshakeMs } from "./limits.ts";

export interface MeshCredentials {
  /** For `serveGrpc`. */
  readonly server: Door;
  /** For `createGrpcTransport`. */
  readonly channel: ChannelCredentials;
  /** Why no peer takes this process, a sentence each. */
  problems(): string[];
  /** What will be a problem unless somebody does something, a sentence each. */
  warnings(): string[];
  close(): void;
}

/**
 * New connections use what the files have, a few seconds after they changed; those that are there stay. Files that cannot be used do not
 * replace those that could.
 */
export function meshCredentials(
  files: CertificateFiles,
  { log, clock = systemClock }: { log: Logger; clock?: Clock },
): MeshCredentials {
  const certificates = new Certificates(files, log, clock);
  return {
    server: {
      open: (taken, serverLog) => new TlsDoor(certificates, taken, serverLog, clock).listener,
    },
    channel: new TlsChannel(certificates, clock),
    problems: () => certificates.problems(),
    warnings: () => certificates.warnings(),
    close: () => certificates.close(),
  };
}

/** A server that refuses says why in these words, in the place of its first frame: TLS has no way to. */
const refusalStart = "parley refuses: ";
const refusalMs = 1_000;

class TlsDoor {
  readonly listener: Listener;
  readonly #taken: (connection: Duplex) => void;
  readonly #log: Logger;
  readonly #clock: Clock;

  constructor(
    certificates: Certificates,
    taken: (connection: Duplex) => void,
    log: Logger,
    clock: Clock,
  ) {
    this.#taken = taken;
    this.#log = log;
    this.#clock = clock;
    const listener = createServer({
      ...secure(certificates.pem),
      requestCert: true,
      // Refused below, with the reason.
      rejectUnauthorized: false,
      ALPNProtocols: ["h2"],
      handshakeTimeout: handshakeMs,
    });
    listener.on("secureConnection", (socket) => this.#meet(socket));
    listener.on("tlsClientError", (err, socket) => {
      // Whoever only looks whether the port is open, or left.
      const left = "code" in err && err.code === "ECONNRESET";
      const level = left ? "debug" : "warn";
      log[level](
        { reason: wordsOf(err), remote: socket.remoteAddress },
        "a connection is not encrypted as it must be",
      );
    });
    listener.once(
      "close",
      certificates.watch((pem) => listener.setSecureContext(secure(pem))),
    );
    this.listener = listener;
  }

  #meet(socket: TLSSocket): void {
    // The session on it tells of it, too.
    socket.on("error", () => undefined);
    const reason = refusal(socket);
    if (reason === undefined) return this.#taken(socket);
    this.#log.warn({ reason, remote: socket.remoteAddress }, "a peer was refused");
    socket.resume();
    socket.end(refusalStart + reason);
    const cancel = this.#clock.after(refusalMs, () => socket.destroy());
    socket.once("close", cancel);
  }
}

/** What OpenSSL says without where in it that is said. */
const wordsOf = (error: Error): string =>
  "reason" in error ? String(error.reason) : error.message.trim();

/** A session that is taken up again would not have its certificate looked at again. */
const secure = (pem: Pem | undefined): object => ({
  ...pem,
  secureOptions: constants.SSL_OP_NO_TICKET,
});

/** Why the peer may not come in. */
function refusal(socket: TLSSocket): string | undefined {
  const certificate = socket.getPeerCertificate();
  if (Object.keys(certificate).length === 0) return "no certificate was shown";
  if (!socket.authorized)
    return `the certificate is not valid: ${String(socket.authorizationError)}`;
  if (checkServerIdentity(meshName, certificate) !== undefined)
    return `the certificate lacks the name ${meshName}`;
  return undefined;
}

class TlsChannel extends ChannelCredentials {
  readonly #certificates: Certificates;
  readonly #clock: Clock;

  constructor(certificates: Certificates, clock: Clock) {
    super();
    this.#certificates = certificates;
    this.#clock = clock;
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: ChannelCredentials): boolean {
    return other === this;
  }

  override _createSecureConnector(
    _target: unknown,
    _options: unknown,
    callCredentials: CallCredentials = CallCredentials.createEmpty(),
  ): experimental.SecureConnector {
    return {
      connect: async (socket) => ({ socket: await this.#connect(socket), secure: true }),
      waitForReady: () => Promise.resolve(),
      getCallCredentials: () => callCredentials,
      destroy: () => undefined,
    };
  }

  #connect(socket: Socket): Promise<TLSSocket> {
    return new Promise((resolve, reject) => {
      const secured = connect({
        socket,
        secureContext: this.#certificates.context,
        servername: meshName,
        checkServerIdentity: (_, certificate) => checkServerIdentity(meshName, certificate),
        ALPNProtocols: ["h2"],
      });
      const cancel = this.#clock.after(handshakeMs, () => fail("it does not answer"));
      let known = false;
      function fail(reason: string, cause?: unknown): void {
        cancel();
        secured.destroy();
        reject(new Error(reason, { cause }));
      }
      function answered(): void {
        const first = secured.read() as Buffer | null;
        if (first === null) return;
        const text = first.toString("latin1");
        if (text.startsWith(refusalStart))
          return fail(`it refuses this process: ${text.slice(refusalStart.length)}`);
        cancel();
        secured.off("readable", answered).off("close", closed);
        secured.unshift(first);
        resolve(secured);
      }
      const closed = (): void =>
        fail(known ? "it ended the connection without a word" : "it ended the handshake");
      secured.once("secureConnect", () => {
        known = true;
        // Only now it is known whether the other side takes this one: its first frame comes by itself.
        secured.on("readable", answered);
      });
      secured.once("close", closed);
      secured.on("error", (error) => fail(`it is not to be trusted: ${wordsOf(error)}`, error));
    });
  }
}
