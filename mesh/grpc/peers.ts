/** The instances of a service as peers: a channel to each that lives. */
import type { ChannelCredentials } from "@grpc/grpc-js";
import type { Clock } from "../clock.ts";
import type { Instance, InstanceList } from "../directory.ts";
import { type Peers, PeerTable } from "../peers.ts";
import { createGrpcTransport, type GrpcTransport } from "./transport.ts";

export interface GrpcPeersOptions {
  readonly clock: Clock;
  readonly credentials?: ChannelCredentials;
}

export class GrpcPeers implements Peers {
  readonly #instances: InstanceList;
  readonly #options: GrpcPeersOptions;
  readonly #table = new PeerTable();
  readonly #transports = new Map<string, GrpcTransport>();
  readonly #unwatch: () => void;

  constructor(instances: InstanceList, options: GrpcPeersOptions) {
    this.#instances = instances;
    this.#options = options;
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

  #transport({ id, address }: Instance): GrpcTransport {
    const known = this.#transports.get(id);
    if (known !== undefined) return known;
    const transport = createGrpcTransport({ ...this.#options, address });
    this.#transports.set(id, transport);
    return transport;
  }
}
