/** Names for gRPC channels whose addresses are the live instances of a service, as the directory tells them. */
import { experimental, Metadata, status } from "@grpc/grpc-js";
import type { ChannelOptions } from "@grpc/grpc-js";
import type { InstanceList } from "../directory.ts";

const scheme = "parley-instances";

/** The channel option that carries the list: a target is a text, and a table of lists by name would be shared by all of the process. */
const listOption = "parley.instances";

/** Calls go to the instances in turn, and to another one where a connection is lost. A stream stays where it began. */
const serviceConfig = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [],
};

type Listener = experimental.ResolverListener;

class InstanceResolver implements experimental.Resolver {
  readonly #listener: Listener;
  readonly #instances: InstanceList | undefined;
  #unwatch: (() => void) | undefined;

  constructor(_target: unknown, listener: Listener, options: ChannelOptions) {
    this.#listener = listener;
    const list: unknown = options[listOption];
    this.#instances = isList(list) ? list : undefined;
  }

  /** Asked again whenever a connection is lost: the list is the same as long as nobody came or went, and telling it again asks again. */
  updateResolution(): void {
    if (this.#unwatch !== undefined) return;
    this.#unwatch = this.#instances?.watch(() => this.#tell()) ?? (() => undefined);
    // Not within the call, by the contract of the library.
    queueMicrotask(() => this.#tell());
  }

  destroy(): void {
    this.#unwatch?.();
    this.#unwatch = undefined;
  }

  #tell(): void {
    if (this.#unwatch === undefined) return;
    const present = this.#instances?.present ?? [];
    const staying = present.filter(({ draining }) => !draining);
    const endpoints = (staying.length > 0 ? staying : present).map(({ address }) => ({
      addresses: [addressOf(address)],
    }));
    if (endpoints.length === 0) {
      const details = "no instance of the service is there";
      const error = { code: status.UNAVAILABLE, details, metadata: new Metadata() };
      this.#listener({ ok: false, error }, {}, null, details);
    } else
      this.#listener({ ok: true, value: endpoints }, {}, { ok: true, value: serviceConfig }, "");
  }

  static getDefaultAuthority(): string {
    return "instances";
  }
}

function isList(value: unknown): value is InstanceList {
  return typeof value === "object" && value !== null && "present" in value && "watch" in value;
}

function addressOf(address: string): { host: string; port: number } {
  const at = address.lastIndexOf(":");
  const host = address.slice(0, at).replace(/^\[|\]$/g, "");
  return { host, port: Number(address.slice(at + 1)) };
}

experimental.registerResolver(scheme, InstanceResolver);

/** What a channel to any instance of the list is made with. */
export function anyInstance(instances: InstanceList): { target: string; options: ChannelOptions } {
  return { target: `${scheme}:instances`, options: { [listOption]: instances } };
}
