/** What was heard of the keys: a list, then every change. It never goes back, whatever is heard twice or late. */
import type { Logger } from "pino";
import { Event_EventType } from "../../proto/gen/etcd/kv_pb.ts";
import type { Event, KeyValue } from "../../proto/gen/etcd/kv_pb.ts";
import type { Clock } from "../clock.ts";
import { InstanceTables, serviceNames } from "../directory.ts";
import type { Instance, ServiceName } from "../directory.ts";
import { unavailable } from "../errors.ts";
import type { ShardTable } from "../shards.ts";
import { instanceFromValue } from "./keys.ts";
import type { Keys } from "./keys.ts";

interface Known {
  readonly instance: Instance;
  readonly revision: bigint;
}

export class View {
  readonly tables = new InstanceTables();
  readonly #keys: Keys;
  readonly #shards: ShardTable;
  readonly #log: Logger;
  readonly #known = new Map<ServiceName, Map<string, Known>>(
    serviceNames.map((service) => [service, new Map()]),
  );
  readonly #listeners = new Set<() => void>();
  #revision = 0n;

  constructor(keys: Keys, shards: ShardTable, log: Logger) {
    this.#keys = keys;
    this.#shards = shards;
    this.#log = log;
  }

  /** Everything up to this revision of etcd was heard; 0: nothing. */
  get revision(): bigint {
    return this.#revision;
  }

  /** Calls after everything that was heard, until the answer is called. */
  watch(heard: () => void): () => void {
    this.#listeners.add(heard);
    return () => void this.#listeners.delete(heard);
  }

  /**
   * Resolves once everything up to a revision was heard. Whoever learned of a key by asking knows by then what its writer is: its instance was
   * announced before.
   */
  async reached(revision: bigint, clock: Clock, withinMs: number): Promise<void> {
    if (this.#revision >= revision) return;
    await new Promise<void>((resolve, reject) => {
      const unwatch = this.watch(() => {
        if (this.#revision < revision) return;
        end();
        resolve();
      });
      const cancel = clock.after(withinMs, () => {
        end();
        reject(unavailable("what etcd answered was not heard of yet by its watch"));
      });
      const end = (): void => {
        unwatch();
        cancel();
      };
    });
  }

  has({ service, id }: Pick<Instance, "service" | "id">): boolean {
    return this.#of(service).has(id);
  }

  /** All keys, as they were at a revision. */
  list(keyValues: readonly KeyValue[], revision: bigint): void {
    if (revision < this.#revision)
      throw unavailable(
        `etcd is at revision ${revision}, where ${this.#revision} was heard before: it was set back or made anew`,
      );
    const there = new Map<ServiceName, Set<string>>(
      serviceNames.map((service) => [service, new Set()]),
    );
    const changed = new Set<ServiceName>();
    for (const keyValue of keyValues) {
      const instance = this.#put(keyValue, changed);
      if (instance !== undefined) there.get(instance.service)?.add(instance.id);
    }
    for (const service of serviceNames) {
      const known = this.#of(service);
      for (const id of known.keys()) {
        if (there.get(service)?.has(id) === true) continue;
        known.delete(id);
        changed.add(service);
      }
    }
    this.#heard(changed, revision);
  }

  /** Changes in their order; all of each revision at once. `upTo`: there were no others up to that revision. */
  hear(events: readonly Event[], upTo = 0n): void {
    const changed = new Set<ServiceName>();
    let last = upTo;
    for (const { type, kv } of events) {
      if (kv === undefined || kv.modRevision <= this.#revision) continue;
      if (kv.modRevision > last) last = kv.modRevision;
      if (type === Event_EventType.DELETE) this.#delete(kv, changed);
      else this.#put(kv, changed);
    }
    this.#heard(changed, last);
  }

  #of(service: ServiceName): Map<string, Known> {
    return this.#known.get(service) ?? new Map();
  }

  /** The instance that it tells of, if it does. */
  #put(
    { key, value, modRevision }: KeyValue,
    changed: Set<ServiceName>,
  ): Pick<Instance, "service" | "id"> | undefined {
    const parsed = this.#keys.parse(key);
    if (parsed === undefined) return undefined;
    if (parsed.kind === "shard") {
      const owner = { incarnation: Buffer.from(value).toString(), epoch: modRevision };
      if (parsed.shard < this.#shards.count) this.#shards.learn(parsed.shard, owner);
      return undefined;
    }
    const known = this.#of(parsed.service);
    if (known.get(parsed.id)?.revision === modRevision) return parsed;
    const instance = instanceFromValue(parsed, value);
    if (instance === undefined) {
      this.#log.warn({ service: parsed.service, instance: parsed.id }, "no instance, not heeded");
      return undefined;
    }
    known.set(parsed.id, { instance, revision: modRevision });
    changed.add(parsed.service);
    return parsed;
  }

  #delete({ key }: KeyValue, changed: Set<ServiceName>): void {
    const parsed = this.#keys.parse(key);
    if (parsed?.kind !== "instance") return;
    if (this.#of(parsed.service).delete(parsed.id)) changed.add(parsed.service);
  }

  #heard(changed: Set<ServiceName>, revision: bigint): void {
    if (revision > this.#revision) this.#revision = revision;
    for (const service of changed) {
      const known = [...this.#of(service).values()];
      this.tables.of(service).replace(known.map(({ instance }) => instance));
    }
    for (const listener of this.#listeners) listener();
  }
}
