/** The port to discovery: which instances live, under leases, and who owns which shard. etcd in a cluster, memory in tests; one suite checks both. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { ShardRegistry } from "./shards.ts";

export const serviceNames = ["gateway", "session", "delivery", "presence", "storage"] as const;
export type ServiceName = (typeof serviceNames)[number];

/** What one life of a process tells the others about itself. */
export interface Instance {
  readonly service: ServiceName;
  /** One life: never used again. */
  readonly id: string;
  /** Unique among the live instances of the service; empty: none. */
  readonly name: string;
  /** Where its gRPC listens, "host:port". */
  readonly address: string;
  readonly region: string;
  /** Where clients reach it; empty: they do not. */
  readonly url: string;
  /** It is going away: nothing new is placed on it. */
  readonly draining: boolean;
  /** Shards that an operator moved to it. */
  readonly pinned?: readonly number[];
}

/** What an instance may change while it is announced. */
export type InstanceChange = Partial<Pick<Instance, "draining" | "url" | "pinned">>;

export interface Membership {
  /**
   * Whether the lease is known to live, by this process's own monotonic clock: false from one time to live after the last confirmed
   * renewal was *asked for*, or once it is lost. Whoever is not sure to be alive for the others places nothing and hands nothing over.
   */
  readonly held: boolean;
  /** When the last confirmed renewal was asked for, on that clock. */
  readonly renewedMs: number;
  /** Tells the others of a change. Rejects with FAILED_PRECONDITION where the lease is over, UNAVAILABLE where the directory does not answer. */
  update(change: InstanceChange): Promise<void>;
  /** Ends the lease, so that the others know at once. Where it rejects, with UNAVAILABLE, the lease ends by itself. */
  leave(): Promise<void>;
}

/** The live instances of one service, as last heard. While the directory cannot be reached it stays as it was. */
export interface InstanceList {
  /** In order of id; another array after each change. */
  readonly present: readonly Instance[];
  /** Calls after each change, until the answer is called. */
  watch(changed: () => void): () => void;
}

/**
 * Duties of every directory, checked by one suite:
 * - What is announced is seen by all until the lease ends: by `leave`, or one time to live after its holder was last heard, and then at once.
 * - A list never shows what was true before something that it showed already. It survives reconnects, compaction, a leader's death and a
 *   member that hangs: afterwards it is as it would be without.
 * - While the directory cannot be reached nothing changes, and nothing here throws for it but what has to ask.
 */
export interface Directory {
  /**
   * Announces an instance under a lease and keeps it alive. Rejects with ALREADY_EXISTS where its name is taken by another live instance,
   * UNAVAILABLE where the directory does not answer. `lost` is called once, when it is known that the lease ended without `leave`: the life
   * is over for the others, whatever it thinks of itself. Being unable to reach the directory is no loss (the lease may be alive or not).
   */
  join(instance: Instance, lost: () => void): Promise<Membership>;
  instances(service: ServiceName): InstanceList;
  readonly shards: ShardRegistry;
  /** Why it does not hear what happens, a sentence each. */
  problems(): string[];
  /** Ends everything that it holds open; leases are left to end by themselves. */
  close(): Promise<void>;
}

/** The live instances of one service, as somebody tells of them. */
export class InstanceTable implements InstanceList {
  #present: readonly Instance[] = [];
  readonly #listeners = new Set<() => void>();

  get present(): readonly Instance[] {
    return this.#present;
  }

  watch(changed: () => void): () => void {
    this.#listeners.add(changed);
    return () => void this.#listeners.delete(changed);
  }

  replace(present: Iterable<Instance>): void {
    this.#present = [...present].sort((left, right) => (left.id < right.id ? -1 : 1));
    for (const listener of this.#listeners) listener();
  }
}

/** The instances of all services, as somebody tells of them. */
export class InstanceTables {
  readonly #tables = new Map<ServiceName, InstanceTable>(
    serviceNames.map((service) => [service, new InstanceTable()]),
  );

  of(service: ServiceName): InstanceTable {
    const table = this.#tables.get(service);
    if (table === undefined) throw new Error(`there is no service ${service}`);
    return table;
  }
}

/** The answer to whoever announces itself by a name that another has. */
export const nameTaken = ({ service, name }: Instance): ConnectError =>
  new ConnectError(`another ${service} is named "${name}"`, Code.AlreadyExists);

/** The answer to whoever changes what it announced after its lease ended. */
export const leaseOver = (): ConnectError =>
  new ConnectError("the lease of this instance is over", Code.FailedPrecondition);
