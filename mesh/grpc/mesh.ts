/** A mesh over a real connection: serves on this machine and calls itself. For suites that every mesh must pass. */
import type { DescService } from "@bufbuild/protobuf";
import type { ServiceImpl, Transport } from "@connectrpc/connect";
import type { Logger } from "pino";
import { Handlers } from "../handlers.ts";
import type { Mesh } from "../mesh.ts";
import { serveGrpc } from "./server.ts";
import type { GrpcServer } from "./server.ts";
import { createGrpcTransport } from "./transport.ts";
import type { GrpcTransport } from "./transport.ts";

export interface GrpcMeshOptions {
  log: Logger;
  /** 0: one that is free. */
  port?: number;
  maxMessageBytes?: number;
  /** How long unary calls under way may still take when the mesh closes. */
  graceMs?: number;
}

export class GrpcMesh implements Mesh {
  readonly handlers: Handlers;
  readonly #server: GrpcServer;
  readonly #transport: GrpcTransport;
  readonly #graceMs: number;

  private constructor(
    handlers: Handlers,
    server: GrpcServer,
    { maxMessageBytes, graceMs = 0 }: GrpcMeshOptions,
  ) {
    this.handlers = handlers;
    this.#server = server;
    this.#graceMs = graceMs;
    this.#transport = createGrpcTransport({
      address: `127.0.0.1:${server.port}`,
      ...(maxMessageBytes === undefined ? {} : { maxMessageBytes }),
    });
  }

  static async listen(options: GrpcMeshOptions): Promise<GrpcMesh> {
    const { log, port = 0, maxMessageBytes } = options;
    const handlers = new Handlers();
    const server = await serveGrpc({
      host: "127.0.0.1",
      port,
      handlers,
      log,
      ...(maxMessageBytes === undefined ? {} : { maxMessageBytes }),
    });
    return new GrpcMesh(handlers, server, options);
  }

  get port(): number {
    return this.#server.port;
  }

  serve<S extends DescService>(service: S, implementation: ServiceImpl<S>): void {
    this.handlers.add(service, implementation);
  }

  transport(_service: DescService): Transport {
    return this.#transport;
  }

  async close(): Promise<void> {
    this.#transport.close();
    await this.#server.close(this.#graceMs);
  }
}
