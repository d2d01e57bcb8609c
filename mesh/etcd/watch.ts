/** Lists all keys and hears every change after that, over one stream; notices when it hears nothing any more. */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { KV, Watch, WatchRequestSchema } from "../../proto/gen/etcd/rpc_pb.ts";
import type { WatchRequest, WatchResponse } from "../../proto/gen/etcd/rpc_pb.ts";
import { every } from "../clock.ts";
import type { Clock } from "../clock.ts";
import { unavailable } from "../errors.ts";
import { Pipe } from "../pipe.ts";
import type { Keys } from "./keys.ts";
import type { Attempt } from "./line.ts";
import { hasLeader } from "./members.ts";
import type { View } from "./view.ts";

/** How often a watch is asked for a sign of life. */
const pingMs = 1_500;
/** How long it may be silent before it is taken for dead. */
const silentMs = 4_000;
const listMs = 5_000;

/** Runs until the stream fails. */
export async function hearChanges(
  attempt: Attempt,
  keys: Keys,
  view: View,
  clock: Clock,
): Promise<never> {
  if (view.revision === 0n) await list(attempt, keys, view);
  for (;;) {
    await watch(attempt, keys, view, clock);
    // What comes after what is known was compacted.
    await list(attempt, keys, view);
  }
}

async function list({ transport, signal, well }: Attempt, keys: Keys, view: View): Promise<void> {
  const { header, kvs } = await createClient(KV, transport).range(keys.all, {
    signal,
    timeoutMs: listMs,
  });
  well();
  view.list(kvs, header?.revision ?? 0n);
}

/** Returns when a new list is needed. */
async function watch(attempt: Attempt, keys: Keys, view: View, clock: Clock): Promise<void> {
  const { transport, signal, fail, well } = attempt;
  const requests = new Pipe<WatchRequest>(16);
  const ask = (requestUnion: WatchRequest["requestUnion"]): void =>
    void requests.offer(create(WatchRequestSchema, { requestUnion }));
  const deaf = (): void => fail(unavailable("it was silent for too long"));
  let cancelDeaf = clock.after(silentMs, deaf);
  const cancelPing = every(clock, pingMs, () =>
    ask({ case: "progressRequest", value: { $typeName: "etcdserverpb.WatchProgressRequest" } }),
  );
  ask({
    case: "createRequest",
    value: {
      $typeName: "etcdserverpb.WatchCreateRequest",
      ...keys.all,
      startRevision: view.revision + 1n,
      progressNotify: true,
    },
  });
  try {
    const responses = createClient(Watch, transport).watch(requests, {
      signal,
      headers: hasLeader,
    });
    for await (const response of responses) {
      cancelDeaf();
      cancelDeaf = clock.after(silentMs, deaf);
      if (response.canceled) return cancelled(response);
      if (response.created) well();
      heed(response, view);
    }
  } finally {
    cancelDeaf();
    cancelPing();
    requests.end();
  }
  throw unavailable("etcd ended the watch");
}

function heed({ created, watchId, events, header }: WatchResponse, view: View): void {
  if (events.length > 0) view.hear(events);
  // The answer to a ping (of watch -1) is not told from: in some versions of etcd it overtakes changes.
  else if (!created && watchId >= 0n) view.hear([], header?.revision ?? 0n);
}

function cancelled({ compactRevision, cancelReason }: WatchResponse): void {
  if (compactRevision > 0n) return;
  throw new ConnectError(`etcd cancelled the watch: ${cancelReason}`, Code.Unavailable);
}
