/** Where things are in etcd, below one prefix, and how they are written. */
import { serviceNames } from "../directory.ts";
import type { Instance, ServiceName } from "../directory.ts";

/** What a key is about. */
export type KeyOf =
  | { readonly kind: "instance"; readonly service: ServiceName; readonly id: string }
  | { readonly kind: "shard"; readonly shard: number };

export class Keys {
  /** Ends in "/". */
  readonly prefix: string;

  constructor(prefix: string) {
    this.prefix = `${prefix.replace(/\/+$/, "")}/`;
  }

  /** All of them, as etcd wants a range: from the first up to the first that is not one. */
  get all(): { key: Uint8Array; rangeEnd: Uint8Array } {
    return { key: bytes(this.prefix), rangeEnd: bytes(`${this.prefix.slice(0, -1)}0`) };
  }

  /** How many shards there are. */
  get shardCount(): Uint8Array {
    return bytes(`${this.prefix}settings/shards`);
  }

  /** Its value is the owner's incarnation, its last change the owner's epoch. It has no lease. */
  shard(shard: number): Uint8Array {
    return bytes(`${this.prefix}shards/${shard}`);
  }

  /** Its value is what the instance says of itself; it ends with the instance's lease. */
  instance({ service, id }: Pick<Instance, "service" | "id">): Uint8Array {
    return bytes(`${this.prefix}instances/${service}/${encodeURIComponent(id)}`);
  }

  /** Whoever has the name has this key; it ends with the instance's lease. */
  name({ service, name }: Pick<Instance, "service" | "name">): Uint8Array {
    return bytes(`${this.prefix}names/${service}/${encodeURIComponent(name)}`);
  }

  /** Undefined: nothing that concerns a directory, or nothing that this version knows. */
  parse(key: Uint8Array): KeyOf | undefined {
    const text = Buffer.from(key).toString();
    if (!text.startsWith(this.prefix)) return undefined;
    const [kind, first = "", second = ""] = text.slice(this.prefix.length).split("/");
    if (kind === "shards" && /^\d+$/.test(first)) return { kind: "shard", shard: Number(first) };
    const service = serviceNames.find((name) => name === first);
    const id = decoded(second);
    if (kind !== "instances" || service === undefined || id === undefined) return undefined;
    return { kind: "instance", service, id };
  }
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

export function bytes(text: string): Uint8Array {
  return Buffer.from(text);
}

export function instanceToValue(instance: Instance): Uint8Array {
  const { name, address, region, url, draining, pinned = [] } = instance;
  const some = pinned.length === 0 ? {} : { pinned };
  return bytes(JSON.stringify({ name, address, region, url, draining, ...some }));
}

/** What a newer version adds is not seen, and what an older one lacks is empty. Undefined: it is no instance. */
export function instanceFromValue(
  { service, id }: Pick<Instance, "service" | "id">,
  value: Uint8Array,
): Instance | undefined {
  const fields = fieldsOf(value);
  if (fields === undefined) return undefined;
  const text = (name: string): string => {
    const field = fields.get(name);
    return typeof field === "string" ? field : "";
  };
  return {
    service,
    id,
    name: text("name"),
    address: text("address"),
    region: text("region"),
    url: text("url"),
    draining: fields.get("draining") === true,
    ...pinnedOf(fields.get("pinned")),
  };
}

function pinnedOf(field: unknown): Pick<Instance, "pinned"> {
  if (!Array.isArray(field)) return {};
  return { pinned: field.filter((shard) => typeof shard === "number") };
}

function fieldsOf(value: Uint8Array): Map<string, unknown> | undefined {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(value).toString());
    if (typeof parsed !== "object" || parsed === null) return undefined;
    return new Map(Object.entries(parsed));
  } catch {
    return undefined;
  }
}
