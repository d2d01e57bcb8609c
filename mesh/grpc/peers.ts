/** The instances of a service as peers: a channel to each that lives. */
import type { Transport } from "@connectrpc/connect";
import type { ChannelCredentials } from "@grpc/grpc-js";
import type { Clock } from "../clock.ts";
import type { Instance, InstanceList } from "../directory.ts";
import { type Peers, PeerTable } from "../peers.ts";
import { createGrpcTransport, type GrpcTransport } from "./transport.ts";

export interface GrpcPeersOptions {
  readonly clock: Clock;
  readonly credentials?: ChannelCredentials;
}

export interface Channel extends Transport {
  close(): void;
}

/** One channel to each life of an instance, whatever a channel is: made when it comes, closed when it has gone. */
export class ChannelPeers<C extends Channel> implements Peers {
  readonly #instances: InstanceList;
  readonly #connect: (instance: Instance) => C;
  readonly #table = new PeerTable();
  readonly #channels = new Map<string, C>();
  readonly #unwatch: () => void;

  constructor(instances: InstanceList, connect: (instance: Instance) => C) {
    this.#instances = instances;
    this.#connect = connect;
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
    for (const channel of this.#channels.values()) channel.close();
    this.#channels.clear();
  }

  channel(instance: Instance): C {
    const known = this.#channels.get(instance.id);
    if (known !== undefined) return known;
    const channel = this.#connect(instance);
    this.#channels.set(instance.id, channel);
    return channel;
  }

  #follow(): void {
    const { present } = this.#instances;
    this.#table.replace(
      present.map((instance) => {
        const { id, name, region, url, draining, address, pinned = [] } = instance;
        const transport = this.channel(instance);
        return { id, name, region, url, draining, address, pinned, transport };
      }),
    );
    const live = new Set(present.map(({ id }) => id));
    for (const [id, channel] of this.#channels) {
      if (live.has(id)) continue;
      this.#channels.delete(id);
      channel.close();
    }
  }
}

export class GrpcPeers extends ChannelPeers<GrpcTransport> {
  constructor(instances: InstanceList, options: GrpcPeersOptions) {
    super(instances, ({ address }) => createGrpcTransport({ ...options, address }));
  }
}
