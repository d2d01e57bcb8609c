/** A process's ways to the services of the others, over the simulated network: as mesh/process-links.ts has them over gRPC. */
import type { DescService } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Transport } from "@connectrpc/connect";
import {
  type Directory,
  type InstanceList,
  type ServiceName,
  serviceNames,
} from "../../mesh/directory.ts";
import { sleep } from "../../mesh/clock.ts";
import { unavailable } from "../../mesh/errors.ts";
import { noInstanceMs } from "../../mesh/grpc/limits.ts";
import { ChannelPeers } from "../../mesh/grpc/peers.ts";
import type { Peers } from "../../mesh/peers.ts";
import { type Callee, type SimTransport, simTransport } from "./calls.ts";
import type { Host } from "./host.ts";
import type { Network } from "./network.ts";

export interface LinkParts {
  readonly network: Network;
  readonly host: Host;
  readonly wire: boolean;
  /** Who is at an address. */
  at(address: string): Callee | undefined;
}

export class SimLinks {
  readonly #directory: Directory;
  readonly #parts: LinkParts;
  readonly #tables = new Map<ServiceName, Channels>();

  constructor(directory: Directory, parts: LinkParts) {
    this.#directory = directory;
    this.#parts = parts;
  }

  transport(service: DescService): Transport {
    return this.#channels(service, "any").any;
  }

  peers(service: DescService): Peers {
    return this.#channels(service, "each");
  }

  close(): void {
    for (const channels of this.#tables.values()) channels.close();
  }

  #channels(service: DescService, _how: "any" | "each"): Channels {
    const name = serviceNames.find((one) => service.typeName.startsWith(`parley.${one}.`));
    if (name === undefined) throw new Error(`${service.typeName} is no service of processes`);
    const known = this.#tables.get(name);
    if (known !== undefined) return known;
    const channels = new Channels(this.#directory.instances(name), this.#parts);
    this.#tables.set(name, channels);
    return channels;
  }
}

/** A channel to each instance of a service. */
class Channels extends ChannelPeers<SimTransport> {
  /** Calls go to the instances in turn; those that cannot be reached are left out. */
  readonly any: Transport = {
    unary: async (...args) => (await this.#next()).unary(...args),
    stream: async (...args) => (await this.#next()).stream(...args),
  };
  readonly #instances: InstanceList;
  readonly #host: Host;
  #turn: number;

  constructor(instances: InstanceList, { at, ...rest }: LinkParts) {
    super(instances, ({ address }) => simTransport({ ...rest, callee: () => at(address) }));
    this.#instances = instances;
    this.#host = rest.host;
    this.#turn = Math.floor(rest.host.random.unit() * 1_000);
  }

  async #next(): Promise<SimTransport> {
    const { clock } = this.#host;
    if (this.#instances.present.length === 0) await sleep(clock, noInstanceMs);
    const { present } = this.#instances;
    const staying = present.filter(({ draining }) => !draining);
    const all = (staying.length > 0 ? staying : present).map((one) => this.channel(one));
    if (all.length === 0) throw unavailable("no instance of the service is there");
    const well = all.filter(({ failing }) => !failing);
    this.#turn += 1;
    const among = well.length > 0 ? well : all;
    const chosen = among[this.#turn % among.length];
    if (chosen === undefined) throw new ConnectError("nobody", Code.Internal);
    return chosen;
  }
}
