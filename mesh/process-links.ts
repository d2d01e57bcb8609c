/** A process's ways to the services of the others: made when first asked for, one each. */
import type { DescService } from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import type { ChannelCredentials } from "@grpc/grpc-js";
import type { Logger } from "pino";
import type { Clock } from "./clock.ts";
import { type Directory, type InstanceList, type ServiceName, serviceNames } from "./directory.ts";
import { GrpcPeers } from "./grpc/peers.ts";
import { createGrpcTransport } from "./grpc/transport.ts";
import type { GrpcTransport } from "./grpc/transport.ts";
import type { Peers } from "./peers.ts";

export interface LinkOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly credentials?: ChannelCredentials;
}

export class Links {
  readonly #directory: Directory;
  readonly #options: LinkOptions;
  readonly #transports = new Map<ServiceName, GrpcTransport>();
  readonly #peers = new Map<ServiceName, GrpcPeers>();

  constructor(directory: Directory, options: LinkOptions) {
    this.#directory = directory;
    this.#options = options;
  }

  transport(service: DescService): Transport {
    return made(this.#transports, service, this.#directory, (instances) =>
      createGrpcTransport({ ...this.#options, instances }),
    );
  }

  peers(service: DescService): Peers {
    return made(
      this.#peers,
      service,
      this.#directory,
      (instances) => new GrpcPeers(instances, this.#options),
    );
  }

  close(): void {
    for (const transport of this.#transports.values()) transport.close();
    for (const peers of this.#peers.values()) peers.close();
  }
}

function made<T>(
  all: Map<ServiceName, T>,
  service: DescService,
  directory: Directory,
  make: (instances: InstanceList) => T,
): T {
  const name = serviceNames.find((one) => service.typeName.startsWith(`parley.${one}.`));
  if (name === undefined) throw new Error(`${service.typeName} is no service of processes`);
  const one = all.get(name) ?? make(directory.instances(name));
  all.set(name, one);
  return one;
}
