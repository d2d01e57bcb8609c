/** etcd as far as processes of Parley use it, over gRPC, so that a contract can be tried where no etcd is: one member, keys in memory, leases by the system's clock. */
import { create } from "@bufbuild/protobuf";
import { systemClock } from "../../../mesh/clock.ts";
import { serveGrpc } from "../../../mesh/grpc/server.ts";
import { Handlers } from "../../../mesh/handlers.ts";
import { createLog } from "../../../mesh/log.ts";
import { Pipe } from "../../../mesh/pipe.ts";
import type { Event } from "../../../proto/gen/etcd/kv_pb.ts";
import {
  KV,
  Lease,
  Watch,
  type WatchCreateRequest,
  type WatchRequest,
  type WatchResponse,
  WatchResponseSchema,
} from "../../../proto/gen/etcd/rpc_pb.ts";
import { EtcdKeys, isWithin, type Range, textOf } from "../../support/etcd-keys.ts";

interface Watching extends Range {
  readonly id: bigint;
  readonly tell: (response: WatchResponse) => void;
}

export class SmallEtcd {
  readonly #watches = new Set<Watching>();
  readonly #keys = new EtcdKeys({
    after: (ms, run) => systemClock.after(ms, run),
    changed: ({ events }) => {
      for (const watching of this.#watches) this.#tell(watching, events);
    },
  });
  #address = "";
  #close = (): Promise<void> => Promise.resolve();

  static async listen(host: string, port: number): Promise<SmallEtcd> {
    const etcd = new SmallEtcd();
    const handlers = new Handlers();
    etcd.#serve(handlers);
    const log = createLog({ level: "silent" });
    const server = await serveGrpc({ host, port, handlers, log });
    etcd.#address = `${host}:${server.port}`;
    etcd.#close = () => server.close(0);
    return etcd;
  }

  /** "host:port". */
  get address(): string {
    return this.#address;
  }

  async close(): Promise<void> {
    this.#keys.close();
    await this.#close();
  }

  /** What is under the keys that begin so, and under which lease. */
  below(prefix: string): { key: string; value: string; lease: bigint }[] {
    return this.#keys.all
      .map(({ key, value, lease }) => ({ key: textOf(key), value: textOf(value), lease }))
      .filter(({ key }) => key.startsWith(prefix));
  }

  endLease(id: bigint): void {
    this.#keys.endLease(id);
  }

  #serve(handlers: Handlers): void {
    const keys = this.#keys;
    handlers.add(KV, {
      range: (request) => ({ header: keys.header, kvs: keys.range(request) }),
      txn: (request) => keys.txn(request),
    });
    handlers.add(Lease, {
      leaseGrant: ({ TTL }) => ({ header: keys.header, ...keys.grant(TTL) }),
      leaseRevoke: ({ ID }) => {
        keys.revoke(ID);
        return { header: keys.header };
      },
      async *leaseKeepAlive(requests) {
        for await (const { ID } of requests) yield { header: keys.header, ID, TTL: keys.renew(ID) };
      },
    });
    handlers.add(Watch, { watch: (requests) => this.#watch(requests) });
  }

  #tell({ id: watchId, tell, ...range }: Watching, events: readonly Event[]): void {
    const concerned = events.filter(({ kv }) => kv !== undefined && isWithin(kv.key, range));
    if (concerned.length > 0)
      tell(create(WatchResponseSchema, { header: this.#keys.header, watchId, events: concerned }));
  }

  /** Several watches may share one stream. */
  #watch(requests: AsyncIterable<WatchRequest>): AsyncIterable<WatchResponse> {
    const responses = new Pipe<WatchResponse>(100_000);
    const tell = (response: WatchResponse): void => void responses.offer(response);
    const mine = new Map<bigint, Watching>();
    const listen = async (): Promise<void> => {
      let nextId = 0n;
      for await (const { requestUnion } of requests) {
        if (requestUnion.case === "createRequest") {
          mine.set(nextId, this.#begin(nextId, requestUnion.value, tell));
          nextId += 1n;
        } else if (requestUnion.case === "cancelRequest") {
          const { watchId } = requestUnion.value;
          const watching = mine.get(watchId);
          if (watching !== undefined) this.#watches.delete(watching);
          tell(create(WatchResponseSchema, { header: this.#keys.header, watchId, canceled: true }));
        } else if (requestUnion.case === "progressRequest")
          tell(create(WatchResponseSchema, { header: this.#keys.header, watchId: -1n }));
      }
    };
    const end = (): void => {
      for (const watching of mine.values()) this.#watches.delete(watching);
      responses.end();
    };
    listen().then(end, end);
    return responses;
  }

  #begin(
    id: bigint,
    { key, rangeEnd, startRevision }: WatchCreateRequest,
    tell: (response: WatchResponse) => void,
  ): Watching {
    const watching = { id, key, rangeEnd, tell };
    tell(create(WatchResponseSchema, { header: this.#keys.header, watchId: id, created: true }));
    if (startRevision > 0n)
      for (const { events } of this.#keys.since(startRevision)) this.#tell(watching, events);
    this.#watches.add(watching);
    return watching;
  }
}
