/** The keys, leases and revisions of an etcd, as far as processes of Parley use them, in memory. When a lease ends and who hears of a change is its owner's affair. */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Cancel } from "../../mesh/clock.ts";
import {
  type Event,
  EventSchema,
  Event_EventType,
  type KeyValue,
  KeyValueSchema,
} from "../../proto/gen/etcd/kv_pb.ts";
import type {
  Compare,
  PutRequest,
  RequestOp,
  ResponseHeader,
  TxnRequest,
  WatchCreateRequest,
} from "../../proto/gen/etcd/rpc_pb.ts";
import { ResponseHeaderSchema } from "../../proto/gen/etcd/rpc_pb.ts";

export type Range = Pick<WatchCreateRequest, "key" | "rangeEnd">;

export interface Change {
  readonly revision: bigint;
  readonly events: readonly Event[];
}

interface Outside {
  /** By the clock that leases live by. */
  readonly after: (ms: number, run: () => void) => Cancel;
  readonly changed: (change: Change) => void;
}

export class EtcdKeys {
  readonly #outside: Outside;
  readonly #keys = new Map<string, KeyValue>();
  readonly #leases = new Map<bigint, { readonly seconds: bigint; end: Cancel }>();
  #changes: Change[] = [];
  #revision = 1n;
  #nextLease = 1n;

  constructor(outside: Outside) {
    this.#outside = outside;
  }

  get header(): ResponseHeader {
    return create(ResponseHeaderSchema, { clusterId: 1n, memberId: 1n, revision: this.#revision });
  }

  get all(): KeyValue[] {
    return [...this.#keys.values()];
  }

  range(range: Range): KeyValue[] {
    return this.all
      .filter(({ key }) => isWithin(key, range))
      .sort((one, other) => Buffer.compare(one.key, other.key));
  }

  txn({ compare, success, failure }: TxnRequest) {
    const succeeded = compare.every((one) => this.#isSo(one));
    const operations = succeeded ? success : failure;
    const puts = operations.flatMap(({ request }) =>
      request.case === "requestPut" ? [request.value] : [],
    );
    for (const { lease } of puts) if (lease !== 0n && !this.#leases.has(lease)) throw noLease();
    if (puts.length > 0) this.#change(() => puts.map((put) => this.#put(put)));
    const responses = operations.map((one) => this.#answer(one));
    return { header: this.header, succeeded, responses };
  }

  grant(seconds: bigint): { ID: bigint; TTL: bigint } {
    const ID = this.#nextLease;
    this.#nextLease += 1n;
    this.#leases.set(ID, { seconds, end: () => undefined });
    this.renew(ID);
    return { ID, TTL: seconds };
  }

  /** Seconds to live; 0: it is over. */
  renew(id: bigint): bigint {
    const lease = this.#leases.get(id);
    if (lease === undefined) return 0n;
    lease.end();
    lease.end = this.#outside.after(Number(lease.seconds) * 1_000, () => this.endLease(id));
    return lease.seconds;
  }

  revoke(id: bigint): void {
    if (!this.#leases.has(id)) throw noLease();
    this.endLease(id);
  }

  /** The lease ends now, as if its holder had not been heard for its time. */
  endLease(id: bigint): void {
    this.#leases.get(id)?.end();
    this.#leases.delete(id);
    const gone = this.all.filter(({ lease }) => lease === id);
    if (gone.length === 0) return;
    this.#change(() =>
      gone.map(({ key }) => {
        this.#keys.delete(textOf(key));
        const kv = create(KeyValueSchema, { key, modRevision: this.#revision });
        return create(EventSchema, { type: Event_EventType.DELETE, kv });
      }),
    );
  }

  /** What changed from that revision on. */
  since(revision: bigint): Change[] {
    return this.#changes.filter((change) => change.revision >= revision);
  }

  /** Forgets what changed; answers the last revision that is forgotten. */
  compact(): bigint {
    this.#changes = [];
    return this.#revision;
  }

  /** No timer is left. */
  close(): void {
    for (const { end } of this.#leases.values()) end();
  }

  #isSo({ key, result, targetUnion }: Compare): boolean {
    const kv = this.#keys.get(textOf(key));
    if (result !== 0) unsaid();
    switch (targetUnion.case) {
      case "modRevision":
        return (kv?.modRevision ?? 0n) === targetUnion.value;
      case "createRevision":
        return (kv?.createRevision ?? 0n) === targetUnion.value;
      case "version":
        return (kv?.version ?? 0n) === targetUnion.value;
      case "lease":
        return (kv?.lease ?? 0n) === targetUnion.value;
      default:
        return unsaid();
    }
  }

  #answer({ request }: RequestOp) {
    if (request.case !== "requestRange")
      return { response: { case: "responsePut" as const, value: { header: this.header } } };
    const value = { header: this.header, kvs: this.range(request.value) };
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
    const change = { revision: this.#revision, events: make() };
    this.#changes.push(change);
    this.#outside.changed(change);
  }
}

export const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

/** As etcd means it: no end is the key alone, an end of one zero byte all from the key on. */
export function isWithin(key: Uint8Array, { key: first, rangeEnd: end }: Range): boolean {
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
