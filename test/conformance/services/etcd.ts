/** etcd as far as processes of Parley use it, over gRPC, so that a contract can be tried where no etcd is: one member, keys in memory, leases by the system's clock. */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Cancel, systemClock } from "../../../mesh/clock.ts";
import { serveGrpc } from "../../../mesh/grpc/server.ts";
import { Handlers } from "../../../mesh/handlers.ts";
import { createLog } from "../../../mesh/log.ts";
import { Pipe } from "../../../mesh/pipe.ts";
import {
  type Event,
  EventSchema,
  Event_EventType,
  type KeyValue,
  KeyValueSchema,
} from "../../../proto/gen/etcd/kv_pb.ts";
import {
  type Compare,
  KV,
  Lease,
  type PutRequest,
  type RequestOp,
  type ResponseHeader,
  ResponseHeaderSchema,
  type TxnRequest,
  Watch,
  type WatchCreateRequest,
  type WatchRequest,
  type WatchResponse,
  WatchResponseSchema,
} from "../../../proto/gen/etcd/rpc_pb.ts";

type Range = Pick<WatchCreateRequest, "key" | "rangeEnd">;

interface Watching extends Range {
  readonly id: bigint;
  readonly tell: (response: WatchResponse) => void;
}

export class SmallEtcd {
  readonly #keys = new Map<string, KeyValue>();
  readonly #leases = new Map<bigint, { readonly seconds: bigint; end: Cancel }>();
  readonly #watches = new Set<Watching>();
  readonly #changes: { readonly revision: bigint; readonly events: Event[] }[] = [];
  #revision = 1n;
  #nextLease = 1n;
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
    for (const { end } of this.#leases.values()) end();
    await this.#close();
  }

  /** What is under the keys that begin so, and under which lease. */
  below(prefix: string): { key: string; value: string; lease: bigint }[] {
    return [...this.#keys.values()]
      .map(({ key, value, lease }) => ({ key: textOf(key), value: textOf(value), lease }))
      .filter(({ key }) => key.startsWith(prefix));
  }

  /** The lease ends now, as if its holder had not been heard for its time. */
  endLease(id: bigint): void {
    this.#leases.get(id)?.end();
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

  get #header(): ResponseHeader {
    return create(ResponseHeaderSchema, { clusterId: 1n, memberId: 1n, revision: this.#revision });
  }

  #serve(handlers: Handlers): void {
    handlers.add(KV, {
      range: (request) => ({ header: this.#header, kvs: this.#range(request) }),
      txn: (request) => this.#txn(request),
    });
    handlers.add(Lease, {
      leaseGrant: ({ TTL }) => {
        const ID = this.#nextLease;
        this.#nextLease += 1n;
        this.#leases.set(ID, { seconds: TTL, end: () => undefined });
        this.#renew(ID);
        return { header: this.#header, ID, TTL };
      },
      leaseRevoke: ({ ID }) => {
        if (!this.#leases.has(ID)) throw noLease();
        this.endLease(ID);
        return { header: this.#header };
      },
      leaseKeepAlive: (requests) => this.#keepAlive(requests),
    });
    handlers.add(Watch, { watch: (requests) => this.#watch(requests) });
  }

  async *#keepAlive(requests: AsyncIterable<{ ID: bigint }>) {
    for await (const { ID } of requests) yield { header: this.#header, ID, TTL: this.#renew(ID) };
  }

  /** Seconds to live; 0: it is over. */
  #renew(id: bigint): bigint {
    const lease = this.#leases.get(id);
    if (lease === undefined) return 0n;
    lease.end();
    lease.end = systemClock.after(Number(lease.seconds) * 1_000, () => this.endLease(id));
    return lease.seconds;
  }

  #range(range: Range): KeyValue[] {
    return [...this.#keys.values()]
      .filter(({ key }) => isWithin(key, range))
      .sort((one, other) => Buffer.compare(one.key, other.key));
  }

  #txn({ compare, success, failure }: TxnRequest) {
    const succeeded = compare.every((one) => this.#isSo(one));
    const operations = succeeded ? success : failure;
    const puts = operations.flatMap(({ request }) =>
      request.case === "requestPut" ? [request.value] : [],
    );
    for (const { lease } of puts) if (lease !== 0n && !this.#leases.has(lease)) throw noLease();
    if (puts.length > 0) this.#change(() => puts.map((put) => this.#put(put)));
    const responses = operations.map((one) => this.#answer(one));
    return { header: this.#header, succeeded, responses };
  }

  #isSo({ key, result, targetUnion }: Compare): boolean {
    const kv = this.#keys.get(textOf(key));
    const there =
      targetUnion.case === "modRevision"
        ? kv?.modRevision
        : targetUnion.case === "createRevision"
          ? kv?.createRevision
          : targetUnion.case === "version"
            ? kv?.version
            : targetUnion.case === "lease"
              ? kv?.lease
              : unsaid();
    if (result !== 0) unsaid();
    return (there ?? 0n) === targetUnion.value;
  }

  #answer({ request }: RequestOp) {
    if (request.case !== "requestRange")
      return { response: { case: "responsePut" as const, value: { header: this.#header } } };
    const value = { header: this.#header, kvs: this.#range(request.value) };
    return { response: { case: "responseRange" as const, value } };
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

  #change(make: () => Event[]): void {
    this.#revision += 1n;
    const events = make();
    this.#changes.push({ revision: this.#revision, events });
    for (const watching of this.#watches) this.#tell(watching, events);
  }

  #tell({ id: watchId, tell, ...range }: Watching, events: readonly Event[]): void {
    const concerned = events.filter(({ kv }) => kv !== undefined && isWithin(kv.key, range));
    if (concerned.length > 0)
      tell(create(WatchResponseSchema, { header: this.#header, watchId, events: concerned }));
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
          tell(create(WatchResponseSchema, { header: this.#header, watchId, canceled: true }));
        } else if (requestUnion.case === "progressRequest")
          tell(create(WatchResponseSchema, { header: this.#header, watchId: -1n }));
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
    tell(create(WatchResponseSchema, { header: this.#header, watchId: id, created: true }));
    if (startRevision > 0n)
      for (const { revision, events } of this.#changes)
        if (revision >= startRevision) this.#tell(watching, events);
    this.#watches.add(watching);
    return watching;
  }
}

const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

/** As etcd means it: no end is the key alone, an end of one zero byte all from the key on. */
function isWithin(key: Uint8Array, { key: first, rangeEnd: end }: Range): boolean {
  if (end.length === 0) return Buffer.compare(key, first) === 0;
  if (Buffer.compare(key, first) < 0) return false;
  return (end.length === 1 && end[0] === 0) || Buffer.compare(key, end) < 0;
}

function noLease(): ConnectError {
  return new ConnectError("etcdserver: requested lease not found", Code.NotFound);
}

function unsaid(): never {
  throw new ConnectError(
    "this etcd compares revisions, versions and leases for equality only",
    Code.Unimplemented,
  );
}
