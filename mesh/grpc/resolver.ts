/** Names for gRPC channels whose addresses are the live instances of a service, as the directory tells them. */
import { experimental, Metadata, status } from "@grpc/grpc-js";
import type { ChannelOptions } from "@grpc/grpc-js";
import type { Cancel, Clock } from "../clock.ts";
import type { InstanceList } from "../directory.ts";
import { noInstanceMs } from "./limits.ts";

const scheme = "parley-instances";

/** The channel option that carries the list: a target is a text, and a table of lists by name would be shared by all of the process. */
const sourceOption = "parley.instances";

interface Source {
  readonly instances: InstanceList;
  readonly clock: Clock;
}

/** By its shape: this module may be there twice in a process, loaded by `require` and by `import`, and gRPC knows the last one's resolver. */
const isSource = (value: unknown): value is Source =>
  typeof value === "object" && value !== null && "instances" in value && "clock" in value;

/** Calls go to the instances in turn, and to another one where a connection is lost. A stream stays where it began. */
const serviceConfig = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [],
};

type Listener = experimental.ResolverListener;

class InstanceResolver implements experimental.Resolver {
  readonly #listener: Listener;
  readonly #source: Source;
  #unwatch: (() => void) | undefined;
  /** Calls wait meanwhile for an instance to come. */
  #waiting: Cancel | undefined;

  constructor(_target: unknown, listener: Listener, options: ChannelOptions) {
    this.#listener = listener;
    const source: unknown = options[sourceOption];
    if (!isSource(source)) throw new Error("the channel has no list of instances");
    this.#source = source;
  }

  /** Asked again whenever a connection is lost: the list is the same as long as nobody came or went, and telling it again asks again. */
  updateResolution(): void {
    if (this.#unwatch !== undefined) return;
    this.#unwatch = this.#source.instances.watch(() => this.#look());
    // Not within the call, by the contract of the library.
    queueMicrotask(() => this.#look());
  }

  destroy(): void {
    this.#unwatch?.();
    this.#unwatch = undefined;
    this.#waiting?.();
    this.#waiting = undefined;
  }

  #look(): void {
    if (this.#unwatch === undefined) return;
    this.#waiting?.();
    this.#waiting = undefined;
    const { instances, clock } = this.#source;
    if (instances.present.length > 0) this.#tell(instances.present);
    else this.#waiting = clock.after(noInstanceMs, () => this.#tellNone());
  }

  #tell(present: InstanceList["present"]): void {
    const staying = present.filter(({ draining }) => !draining);
    const endpoints = (staying.length > 0 ? staying : present).map(({ address }) => ({
      addresses: [placeOf(address)],
    }));
    this.#listener({ ok: true, value: endpoints }, {}, { ok: true, value: serviceConfig }, "");
  }

  #tellNone(): void {
    const details = "no instance of the service is there";
    const error = { code: status.UNAVAILABLE, details, metadata: new Metadata() };
    this.#listener({ ok: false, error }, {}, null, details);
  }

  static getDefaultAuthority(): string {
    return "instances";
  }
}

/** Of "host:port". */
export function placeOf(address: string): { host: string; port: number } {
  const at = address.lastIndexOf(":");
  const host = address.slice(0, at).replace(/^\[|\]$/g, "");
  return { host, port: Number(address.slice(at + 1)) };
}

experimental.registerResolver(scheme, InstanceResolver);

/** What a channel to any instance of the list is made with. */
export function anyInstance(
  instances: InstanceList,
  clock: Clock,
): { target: string; options: ChannelOptions } {
  const source: Source = { instances, clock };
  return { target: `${scheme}:instances`, options: { [sourceOption]: source } };
}
