/** etcd in the simulated world: what the directory uses of it, at three members over one history of revisions. */
import { create } from "@bufbuild/protobuf";
import { every } from "../../mesh/clock.ts";
import type { Directory } from "../../mesh/directory.ts";
import { openEtcdDirectory } from "../../mesh/etcd/directory.ts";
import { Keys } from "../../mesh/etcd/keys.ts";
import { Handlers } from "../../mesh/handlers.ts";
import { Pipe } from "../../mesh/pipe.ts";
import type { Random } from "../../mesh/random.ts";
import type { Event } from "../../proto/gen/etcd/kv_pb.ts";
import {
  KV,
  Lease,
  type ResponseHeader,
  Watch,
  type WatchCreateRequest,
  type WatchRequest,
  type WatchResponse,
  WatchResponseSchema,
} from "../../proto/gen/etcd/rpc_pb.ts";
import { EtcdKeys, textOf } from "../support/etcd-keys.ts";
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
  readonly #watches = new Set<Watcher>();
  readonly keys: EtcdKeys;
  #compacted = 0n;
  #wentUnheard = false;

  constructor(world: World) {
    this.#world = world;
    this.#random = world.chance("etcd");
    this.keys = new EtcdKeys({
      // By the leader's clock, which nobody can stop.
      after: (ms, run) => world.timeline.in(ms, run),
      changed: ({ events }) => {
        for (const watcher of this.#watches) watcher.changed(this.keys.header, events);
      },
    });
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
    const [found] = this.keys.range({ key, rangeEnd: new Uint8Array() });
    return found && textOf(found.value);
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
    for (const { key, lease } of this.keys.all)
      if (lease !== 0n && textOf(key).endsWith(process.id)) return this.keys.endLease(lease);
  }

  /** Tells of all that changes from its first revision on. */
  watch(request: WatchCreateRequest, tell: (response: WatchResponse) => void): Watcher {
    const watcher = new Watcher(this.#world, this.#random, tell);
    watcher.tell(create(WatchResponseSchema, { header: this.keys.header, created: true }));
    if (request.startRevision <= this.#compacted) {
      watcher.tell(
        create(WatchResponseSchema, {
          header: this.keys.header,
          canceled: true,
          compactRevision: this.#compacted,
          cancelReason: "compacted",
        }),
      );
      return watcher;
    }
    for (const { events } of this.keys.since(request.startRevision))
      watcher.changed(this.keys.header, events);
    this.#watches.add(watcher);
    return watcher;
  }

  unwatch(watcher: Watcher): void {
    this.#watches.delete(watcher);
  }

  #compact(): void {
    if (this.#random.unit() < 0.5) return;
    this.#compacted = this.keys.compact();
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

  changed(header: ResponseHeader, events: readonly Event[]): void {
    this.tell(create(WatchResponseSchema, { header, events: [...events] }));
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
    const { keys } = etcd;
    this.handlers.add(KV, {
      range: (request) => ({ header: keys.header, kvs: keys.range(request) }),
      txn: (request) => keys.txn(request),
    });
    this.handlers.add(Lease, {
      leaseGrant: ({ TTL }) => ({ header: keys.header, ...keys.grant(TTL) }),
      leaseRevoke: ({ ID }) => {
        keys.revoke(ID);
        return { header: keys.header };
      },
      async *leaseKeepAlive(requests) {
        for await (const { ID } of requests) yield { header: keys.header, ID, TTL: keys.renew(ID) };
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
            watcher?.tell(create(WatchResponseSchema, { header: etcd.keys.header, watchId: -1n }));
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
