/** etcd in the simulated world: what the directory uses of it, at three members over one history of revisions. */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { every } from "../../mesh/clock.ts";
import type { Cancel } from "../../mesh/clock.ts";
import type { Directory } from "../../mesh/directory.ts";
import { openEtcdDirectory } from "../../mesh/etcd/directory.ts";
import { Keys } from "../../mesh/etcd/keys.ts";
import { Handlers } from "../../mesh/handlers.ts";
import { Pipe } from "../../mesh/pipe.ts";
import type { Random } from "../../mesh/random.ts";
import {
  type Event,
  EventSchema,
  Event_EventType,
  type KeyValue,
  KeyValueSchema,
} from "../../proto/gen/etcd/kv_pb.ts";
import {
  KV,
  Lease,
  type PutRequest,
  type RangeRequest,
  RangeRequestSchema,
  type RequestOp,
  type ResponseHeader,
  ResponseHeaderSchema,
  type TxnRequest,
  Watch,
  type WatchCreateRequest,
  type WatchRequest,
  type WatchResponse,
  WatchResponseSchema,
} from "../../proto/gen/etcd/rpc_pb.ts";
import { type Callee, simTransport } from "./calls.ts";
import type { Host } from "./host.ts";
import type { SimProcess } from "./process.ts";
import type { World } from "./world.ts";

const members = 3;
const prefix = "/parley";
/** The longest that a change takes until a watch tells of it, mostly, and now and then. */
const lagMs = 30;
const longLagMs = 1_500;
const compactMs = 4_000;
/** What a watch told is there by then, over a slow network, too. */
const arrivesMs = 600;

export class SimEtcd {
  readonly #world: World;
  readonly #random: Random;
  readonly #members: Member[];
  readonly #keys = new Map<string, KeyValue>();
  readonly #leases = new Map<bigint, { readonly ttlMs: number; ends: Cancel }>();
  readonly #watches = new Set<Watcher>();
  #log: { revision: bigint; events: Event[] }[] = [];
  #revision = 1n;
  #compacted = 0n;
  #nextLease = 1n;
  #wentUnheard = false;

  constructor(world: World) {
    this.#world = world;
    this.#random = world.chance("etcd");
    this.#members = Array.from(
      { length: members },
      (_, at) => new Member(world.host(`etcd${at}`), this),
    );
    const [first] = this.#members;
    if (first !== undefined) every(first.host.clock, compactMs, () => this.#compact());
  }

  get hosts(): Host[] {
    return this.#members.map(({ host }) => host);
  }

  /** The real directory, over simulated ways to these members. */
  open(process: SimProcess, outside: Parameters<typeof openEtcdDirectory>[1], signal: AbortSignal) {
    const { shards, leaseMs, wire } = this.#world.options;
    const { network } = this.#world;
    const config = {
      endpoints: this.#members.map(({ host }) => `${host.name}:1`),
      prefix,
      shards,
      leaseSeconds: leaseMs / 1_000,
    };
    const opening: Promise<Directory> = openEtcdDirectory(config, outside, {
      signal,
      channel: ({ address = "" }) =>
        simTransport({
          network,
          host: process.host,
          wire,
          callee: () => this.#members.find(({ host }) => address === `${host.name}:1`),
        }),
    });
    return opening;
  }

  /** It went away before all had heard of what was placed last: nobody can keep what they never heard of. */
  get wentUnheard(): boolean {
    return this.#wentUnheard;
  }

  /** The incarnation that a shard's key names. */
  owner(shard: number): string | undefined {
    const key = new Keys(prefix).shard(shard);
    const [found] = this.range(create(RangeRequestSchema, { key }));
    return found && Buffer.from(found.value).toString();
  }

  /** Nobody reaches any member, until the answer is called. */
  away(): () => void {
    const { nowMs } = this.#world.timeline;
    for (const { newsMs } of this.#watches)
      if (newsMs + arrivesMs > nowMs) this.#wentUnheard = true;
    const heals = this.hosts.map((host) => this.#world.network.isolate(host));
    return () => heals.forEach((heal) => heal());
  }

  /** That process reaches no member, or hears of none. */
  cut(process: SimProcess, oneWay: boolean): () => void {
    const { network } = this.#world;
    const heals = this.hosts.flatMap((host) =>
      oneWay
        ? [network.cut(host, process.host)]
        : [network.cut(host, process.host), network.cut(process.host, host)],
    );
    return () => heals.forEach((heal) => heal());
  }

  /** As an operator would end it. */
  endLease(process: SimProcess): void {
    for (const { key, lease } of this.#keys.values())
      if (lease !== 0n && Buffer.from(key).toString().endsWith(process.id)) return this.#end(lease);
  }

  get header(): ResponseHeader {
    return create(ResponseHeaderSchema, { revision: this.#revision });
  }

  range({ key, rangeEnd }: RangeRequest): KeyValue[] {
    return [...this.#keys.values()]
      .filter((kv) => within(kv.key, key, rangeEnd))
      .sort((one, other) => Buffer.compare(one.key, other.key));
  }

  txn({ compare, success, failure }: TxnRequest): { succeeded: boolean; responses: object[] } {
    const succeeded = compare.every(({ key, targetUnion }) => {
      if (targetUnion.case !== "modRevision") throw new ConnectError("not in this world");
      const revision = this.#keys.get(textOf(key))?.modRevision ?? 0n;
      return revision === targetUnion.value;
    });
    const operations = succeeded ? success : failure;
    const puts = operations.flatMap(({ request }) =>
      request.case === "requestPut" ? [request.value] : [],
    );
    for (const { lease } of puts)
      if (lease !== 0n && !this.#leases.has(lease))
        throw new ConnectError("etcdserver: requested lease not found", Code.NotFound);
    if (puts.length > 0) this.#change(() => puts.map((put) => this.#put(put)));
    return { succeeded, responses: operations.map((one) => this.#answer(one)) };
  }

  grant(seconds: bigint): { ID: bigint; TTL: bigint } {
    const ID = this.#nextLease;
    this.#nextLease += 1n;
    const ttlMs = Number(seconds) * 1_000;
    this.#leases.set(ID, { ttlMs, ends: () => undefined });
    this.renew(ID);
    return { ID, TTL: seconds };
  }

  /** Seconds to live; 0: it is over. */
  renew(id: bigint): bigint {
    const lease = this.#leases.get(id);
    if (lease === undefined) return 0n;
    lease.ends();
    // By the leader's clock, which nobody can stop.
    lease.ends = this.#world.timeline.in(lease.ttlMs, () => this.#end(id));
    return BigInt(lease.ttlMs / 1_000);
  }

  revoke(id: bigint): void {
    if (!this.#leases.has(id))
      throw new ConnectError("etcdserver: requested lease not found", Code.NotFound);
    this.#end(id);
  }

  /** Tells of all that changes from its first revision on. */
  watch(request: WatchCreateRequest, tell: (response: WatchResponse) => void): Watcher {
    const watcher = new Watcher(this.#world, this.#random, tell);
    watcher.tell(create(WatchResponseSchema, { header: this.header, created: true }));
    if (request.startRevision <= this.#compacted) {
      watcher.tell(
        create(WatchResponseSchema, {
          header: this.header,
          canceled: true,
          compactRevision: this.#compacted,
          cancelReason: "compacted",
        }),
      );
      return watcher;
    }
    for (const { revision, events } of this.#log)
      if (revision >= request.startRevision) watcher.changed(this.header, events);
    this.#watches.add(watcher);
    return watcher;
  }

  unwatch(watcher: Watcher): void {
    this.#watches.delete(watcher);
  }

  #answer({ request }: RequestOp): object {
    if (request.case === "requestRange") {
      const value = { header: this.header, kvs: this.range(request.value) };
      return { response: { case: "responseRange", value } };
    }
    return { response: { case: "responsePut", value: { header: this.header } } };
  }

  #put({ key, value, lease }: PutRequest): Event {
    const before = this.#keys.get(textOf(key));
    const kv = create(KeyValueSchema, {
      key,
      value,
      lease,
      modRevision: this.#revision,
      createRevision: before?.createRevision ?? this.#revision,
      version: (before?.version ?? 0n) + 1n,
    });
    this.#keys.set(textOf(key), kv);
    return create(EventSchema, { type: Event_EventType.PUT, kv });
  }

  #end(id: bigint): void {
    this.#leases.get(id)?.ends();
    this.#leases.delete(id);
    const gone = [...this.#keys.values()].filter(({ lease }) => lease === id);
    if (gone.length === 0) return;
    this.#change(() =>
      gone.map(({ key }) => {
        this.#keys.delete(textOf(key));
        const kv = create(KeyValueSchema, { key, modRevision: this.#revision });
        return create(EventSchema, { type: Event_EventType.DELETE, kv });
      }),
    );
  }

  #change(make: () => Event[]): void {
    this.#revision += 1n;
    const events = make();
    this.#log.push({ revision: this.#revision, events });
    for (const watcher of this.#watches) watcher.changed(this.header, events);
  }

  #compact(): void {
    if (this.#random.unit() < 0.5) return;
    this.#compacted = this.#revision;
    this.#log = [];
  }
}

/** A watch of somebody, which hears late and in order. */
class Watcher {
  readonly #world: World;
  readonly #random: Random;
  readonly #tell: (response: WatchResponse) => void;
  #dueMs = 0;
  /** When the last of what changed is told. */
  newsMs = 0;

  constructor(world: World, random: Random, tell: (response: WatchResponse) => void) {
    this.#world = world;
    this.#random = random;
    this.#tell = tell;
  }

  changed(header: ResponseHeader, events: Event[]): void {
    this.tell(create(WatchResponseSchema, { header, events }));
    this.newsMs = this.#dueMs;
  }

  tell(response: WatchResponse): void {
    const { timeline } = this.#world;
    const most = this.#random.unit() < 0.03 ? longLagMs : lagMs;
    this.#dueMs = Math.max(this.#dueMs, timeline.nowMs + this.#random.unit() * most);
    timeline.at(this.#dueMs, () => this.#tell(response));
  }
}

class Member implements Callee {
  readonly host: Host;
  readonly handlers = new Handlers();
  readonly #etcd: SimEtcd;

  constructor(host: Host, etcd: SimEtcd) {
    this.host = host;
    this.#etcd = etcd;
    this.handlers.add(KV, {
      range: (request) => ({ header: etcd.header, kvs: etcd.range(request) }),
      txn: (request) => {
        const { succeeded, responses } = etcd.txn(request);
        return { header: etcd.header, succeeded, responses };
      },
    });
    this.handlers.add(Lease, {
      leaseGrant: ({ TTL }) => ({ header: etcd.header, ...etcd.grant(TTL) }),
      leaseRevoke: ({ ID }) => {
        etcd.revoke(ID);
        return { header: etcd.header };
      },
      async *leaseKeepAlive(requests) {
        for await (const { ID } of requests) {
          yield { header: etcd.header, ID, TTL: etcd.renew(ID) };
        }
      },
    });
    this.handlers.add(Watch, { watch: (requests) => this.#watch(requests) });
  }

  get listening(): boolean {
    return !this.host.dead;
  }

  onInternalError = (): void => undefined;

  #watch(requests: AsyncIterable<WatchRequest>): AsyncIterable<WatchResponse> {
    const etcd = this.#etcd;
    const responses = new Pipe<WatchResponse>(10_000);
    const tell = (response: WatchResponse): void =>
      this.host.hears(() => void responses.offer(response));
    const listen = async (): Promise<void> => {
      let watcher: Watcher | undefined;
      try {
        for await (const { requestUnion } of requests) {
          if (requestUnion.case === "createRequest") watcher = etcd.watch(requestUnion.value, tell);
          else if (requestUnion.case === "progressRequest")
            watcher?.tell(create(WatchResponseSchema, { header: etcd.header, watchId: -1n }));
        }
      } finally {
        if (watcher !== undefined) etcd.unwatch(watcher);
        responses.end();
      }
    };
    listen().catch(() => undefined);
    return responses;
  }
}

const textOf = (key: Uint8Array): string => Buffer.from(key).toString();

function within(key: Uint8Array, first: Uint8Array, end: Uint8Array): boolean {
  if (end.length === 0) return Buffer.compare(key, first) === 0;
  return Buffer.compare(key, first) >= 0 && Buffer.compare(key, end) < 0;
}
