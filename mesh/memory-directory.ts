/** Directories in memory: a world that several members share, each by a view of its own that can be cut off. Time is the clock's alone. */
import { every } from "./clock.ts";
import type { Cancel, Clock } from "./clock.ts";
import { InstanceTables, leaseOver, nameTaken, serviceNames } from "./directory.ts";
import type {
  Directory,
  Instance,
  InstanceChange,
  InstanceList,
  Membership,
  ServiceName,
} from "./directory.ts";
import { unavailable } from "./errors.ts";
import { MemoryShards, ShardTable } from "./shards.ts";
import type { ShardOwner, ShardRegistry } from "./shards.ts";

export interface MemoryDirectory extends Directory {
  /** From now on it hears nothing and nobody hears it, until `heal`. */
  cut(): void;
  heal(): void;
}

interface Entry {
  readonly instance: Instance;
  readonly lease: object;
}

/** What all members would know if they could reach it. */
export class MemoryDirectories {
  readonly clock: Clock;
  readonly ttlMs: number;
  readonly shards: MemoryShards;
  readonly #entries = new Map<string, Entry>();
  readonly #expiries = new Map<object, Cancel>();
  readonly #listeners = new Set<(service: ServiceName) => void>();

  constructor(clock: Clock, { shards, ttlMs }: { shards: number; ttlMs: number }) {
    this.clock = clock;
    this.ttlMs = ttlMs;
    this.shards = new MemoryShards(shards);
  }

  /** The view of one member. */
  open(): MemoryDirectory {
    return new View(this);
  }

  /** Ends the lease of an instance, as an operator would. */
  endLease(id: string): void {
    for (const { instance, lease } of this.#entries.values()) {
      if (instance.id === id) this.end(lease);
    }
  }

  watch(changed: (service: ServiceName) => void): () => void {
    this.#listeners.add(changed);
    return () => void this.#listeners.delete(changed);
  }

  present(service: ServiceName): Instance[] {
    return [...this.#entries.values()]
      .map(({ instance }) => instance)
      .filter((instance) => instance.service === service);
  }

  put(instance: Instance, lease: object): void {
    const { service, id, name } = instance;
    const taken = this.present(service).some((other) => other.name === name && other.id !== id);
    if (name !== "" && taken) throw nameTaken(instance);
    this.#entries.set(id, { instance, lease });
    this.#tell(service);
  }

  lives(lease: object): boolean {
    return this.#expiries.has(lease);
  }

  /** The lease ends one time to live from now. */
  renew(lease: object): void {
    this.#expiries.get(lease)?.();
    this.#expiries.set(
      lease,
      this.clock.after(this.ttlMs, () => this.end(lease)),
    );
  }

  end(lease: object): void {
    this.#expiries.get(lease)?.();
    this.#expiries.delete(lease);
    for (const [id, entry] of this.#entries) {
      if (entry.lease !== lease) continue;
      this.#entries.delete(id);
      this.#tell(entry.instance.service);
    }
  }

  #tell(service: ServiceName): void {
    for (const listener of this.#listeners) listener(service);
  }
}

class View implements MemoryDirectory {
  readonly shards: ViewedShards;
  readonly #world: MemoryDirectories;
  readonly #tables = new InstanceTables();
  readonly #members = new Set<MemoryMembership>();
  #release: (() => void)[] = [];
  #state: "open" | "cut" | "closed" = "cut";

  constructor(world: MemoryDirectories) {
    this.#world = world;
    this.shards = new ViewedShards(world.shards, () => this.#reach());
    this.heal();
  }

  join(instance: Instance, lost: () => void): Promise<Membership> {
    return asked(() => {
      this.#reach();
      const member = new MemoryMembership(this.#world, instance, () => this.#reach(), {
        lost,
        over: () => this.#members.delete(member),
      });
      this.#members.add(member);
      return member;
    });
  }

  instances(service: ServiceName): InstanceList {
    return this.#tables.of(service);
  }

  problems(): string[] {
    return this.#state === "open" ? [] : [unreached];
  }

  cut(): void {
    if (this.#state !== "open") return;
    this.#state = "cut";
    for (const release of this.#release) release();
    this.#release = [];
  }

  heal(): void {
    if (this.#state !== "cut") return;
    this.#state = "open";
    const { shards } = this.#world;
    this.#release = [
      this.#world.watch((service) => this.#hear(service)),
      shards.watch((shard) => this.shards.hear(shard)),
    ];
    for (const service of serviceNames) this.#hear(service);
    for (let shard = 0; shard < shards.count; shard += 1) this.shards.hear(shard);
  }

  close(): Promise<void> {
    this.cut();
    this.#state = "closed";
    for (const member of this.#members) member.forget();
    return Promise.resolve();
  }

  #reach(): void {
    if (this.#state !== "open") throw unavailable(unreached);
  }

  #hear(service: ServiceName): void {
    const table = this.#tables.of(service);
    const present = this.#world.present(service);
    const same = present.every((instance) => table.present.includes(instance));
    if (!same || present.length !== table.present.length) table.replace(present);
  }
}

const unreached = "the directory cannot be reached";

class ViewedShards extends ShardTable implements ShardRegistry {
  readonly #shards: MemoryShards;
  readonly #reach: () => void;

  constructor(shards: MemoryShards, reach: () => void) {
    super(shards.count);
    this.#shards = shards;
    this.#reach = reach;
  }

  hear(shard: number): void {
    const owner = this.#shards.owner(shard);
    if (owner !== undefined) this.learn(shard, owner);
  }

  replace(
    shard: number,
    expected: ShardOwner | undefined,
    incarnation: string,
  ): Promise<ShardOwner | undefined> {
    return asked(() => {
      this.#reach();
      return this.#shards.replace(shard, expected, incarnation);
    });
  }

  refresh(shard: number): Promise<ShardOwner | undefined> {
    return asked(() => {
      this.#reach();
      this.hear(shard);
      return this.owner(shard);
    });
  }
}

/** What its holder does to a lease, and what becomes of it. */
interface Fate {
  lost: () => void;
  over: () => void;
}

class MemoryMembership implements Membership {
  readonly #world: MemoryDirectories;
  readonly #reach: () => void;
  readonly #fate: Fate;
  readonly #lease = {};
  readonly #stop: Cancel;
  #instance: Instance;
  #heldUntilMs: number;
  #renewedMs: number;

  constructor(world: MemoryDirectories, instance: Instance, reach: () => void, fate: Fate) {
    world.put(instance, this.#lease);
    world.renew(this.#lease);
    this.#world = world;
    this.#reach = reach;
    this.#fate = fate;
    this.#instance = instance;
    this.#renewedMs = world.clock.monotonic();
    this.#heldUntilMs = this.#renewedMs + world.ttlMs;
    this.#stop = every(world.clock, world.ttlMs / 3, () => this.#renew());
  }

  get held(): boolean {
    return this.#world.clock.monotonic() < this.#heldUntilMs;
  }

  get renewedMs(): number {
    return this.#renewedMs;
  }

  update(change: InstanceChange): Promise<void> {
    return asked(() => {
      this.#reach();
      if (!this.#world.lives(this.#lease)) throw leaseOver();
      this.#instance = { ...this.#instance, ...change };
      this.#world.put(this.#instance, this.#lease);
    });
  }

  leave(): Promise<void> {
    this.forget();
    return asked(() => {
      this.#reach();
      this.#world.end(this.#lease);
    });
  }

  /** Its holder is no more: the lease ends by itself. */
  forget(): void {
    this.#stop();
    this.#heldUntilMs = 0;
    this.#fate.over();
  }

  #renew(): void {
    try {
      this.#reach();
    } catch {
      return;
    }
    if (this.#world.lives(this.#lease)) {
      this.#world.renew(this.#lease);
      this.#renewedMs = this.#world.clock.monotonic();
      this.#heldUntilMs = this.#renewedMs + this.#world.ttlMs;
      return;
    }
    this.forget();
    this.#fate.lost();
  }
}

/** What is thrown rejects. */
async function asked<T>(ask: () => T | Promise<T>): Promise<T> {
  return ask();
}
