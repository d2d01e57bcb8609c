/** A process's ways to the services of the others, over the simulated network: as mesh/process-links.ts has them over gRPC. */
import type { DescService } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Transport } from "@connectrpc/connect";
import {
  type Directory,
  type Instance,
  type InstanceList,
  type ServiceName,
  serviceNames,
} from "../../mesh/directory.ts";
import { sleep } from "../../mesh/clock.ts";
import { unavailable } from "../../mesh/errors.ts";
import { noInstanceMs } from "../../mesh/grpc/limits.ts";
import { type Peers, PeerTable } from "../../mesh/peers.ts";
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
class Channels implements Peers {
  /** Calls go to the instances in turn; those that cannot be reached are left out. */
  readonly any: Transport = {
    unary: async (...args) => (await this.#next()).unary(...args),
    stream: async (...args) => (await this.#next()).stream(...args),
  };
  readonly #instances: InstanceList;
  readonly #parts: LinkParts;
  readonly #table = new PeerTable();
  readonly #transports = new Map<string, SimTransport>();
  readonly #unwatch: () => void;
  #turn = 0;

  constructor(instances: InstanceList, parts: LinkParts) {
    this.#instances = instances;
    this.#parts = parts;
    this.#turn = Math.floor(parts.host.random.unit() * 1_000);
    this.#unwatch = instances.watch(() => this.#follow());
    this.#follow();
  }

  get present(): PeerTable["present"] {
    return this.#table.present;
  }

  watch(changed: () => void): () => void {
    return this.#table.watch(changed);
  }

  close(): void {
    this.#unwatch();
    for (const transport of this.#transports.values()) transport.close();
    this.#transports.clear();
  }

  #follow(): void {
    const { present } = this.#instances;
    this.#table.replace(
      present.map((instance) => {
        const { id, name, region, url, draining } = instance;
        return { id, name, region, url, draining, transport: this.#transport(instance) };
      }),
    );
    const live = new Set(present.map(({ id }) => id));
    for (const [id, transport] of this.#transports) {
      if (live.has(id)) continue;
      this.#transports.delete(id);
      transport.close();
    }
  }

  #transport({ id, address }: Instance): SimTransport {
    const known = this.#transports.get(id);
    if (known !== undefined) return known;
    const { at, ...rest } = this.#parts;
    const transport = simTransport({ ...rest, callee: () => at(address) });
    this.#transports.set(id, transport);
    return transport;
  }

  async #next(): Promise<SimTransport> {
    const { clock } = this.#parts.host;
    if (this.#instances.present.length === 0) await sleep(clock, noInstanceMs);
    const { present } = this.#instances;
    const staying = present.filter(({ draining }) => !draining);
    const all = (staying.length > 0 ? staying : present).map((one) => this.#transport(one));
    if (all.length === 0) throw unavailable("no instance of the service is there");
    const well = all.filter(({ failing }) => !failing);
    this.#turn += 1;
    const among = well.length > 0 ? well : all;
    const chosen = among[this.#turn % among.length];
    if (chosen === undefined) throw new ConnectError("nobody", Code.Internal);
    return chosen;
  }
}
