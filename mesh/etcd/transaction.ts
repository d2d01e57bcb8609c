/** Transactions on etcd's keys: something is put only where what is there is what was expected. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Compare_CompareTarget } from "../../proto/gen/etcd/rpc_pb.ts";
import type { TxnRequestSchema, TxnResponse } from "../../proto/gen/etcd/rpc_pb.ts";
import type { KeyValue } from "../../proto/gen/etcd/kv_pb.ts";

type Transaction = MessageInitShape<typeof TxnRequestSchema>;

export interface Put {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  /** The lease that the key ends with; 0 or not given: none. */
  readonly lease?: bigint;
}

/** Puts all, if none of the keys is there; else answers with those that are. */
export function putNew(puts: readonly Put[]): Transaction {
  return put(puts, 0n);
}

/** Puts another value, if the last change of the key is that revision (0: it is not there); else answers with what is there. */
export function putInPlaceOf(revision: bigint, replacement: Put): Transaction {
  return put([replacement], revision);
}

function put(puts: readonly Put[], revision: bigint): Transaction {
  return {
    compare: puts.map(({ key }) => ({
      key,
      target: Compare_CompareTarget.MOD,
      targetUnion: { case: "modRevision", value: revision },
    })),
    success: puts.map((value) => ({ request: { case: "requestPut", value } })),
    failure: puts.map(({ key }) => ({ request: { case: "requestRange", value: { key } } })),
  };
}

/** Those that the transaction read. */
export function keyValues({ responses }: TxnResponse): KeyValue[] {
  return responses.flatMap(({ response }) =>
    response.case === "responseRange" ? response.value.kvs : [],
  );
}
