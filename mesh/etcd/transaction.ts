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
  return putEachInPlaceOf(puts.map((put) => ({ put, revision: 0n })));
}

/** Puts another value, if the last change of the key is that revision (0: it is not there); else answers with what is there. */
export function putInPlaceOf(revision: bigint, put: Put): Transaction {
  return putEachInPlaceOf([{ put, revision }]);
}

/** As `putInPlaceOf` for each: all, or none. */
export function putEachInPlaceOf(
  puts: readonly { readonly put: Put; readonly revision: bigint }[],
): Transaction {
  return {
    compare: puts.map(({ put: { key }, revision }) => ({
      key,
      target: Compare_CompareTarget.MOD,
      targetUnion: { case: "modRevision", value: revision },
    })),
    success: puts.map(({ put: value }) => ({ request: { case: "requestPut", value } })),
    failure: puts.map(({ put: { key } }) => ({
      request: { case: "requestRange", value: { key } },
    })),
  };
}

/** Those that the transaction read. */
export function keyValues({ responses }: TxnResponse): KeyValue[] {
  return responses.flatMap(({ response }) =>
    response.case === "responseRange" ? response.value.kvs : [],
  );
}
