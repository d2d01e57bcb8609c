/** Ends calls at instances that are gone: one that stands still keeps its connections open, and says nothing by them for as long as they are waited for. */
import type { Cancel, Clock } from "../clock.ts";
import type { InstanceList } from "../directory.ts";
import { unavailable } from "../errors.ts";
import type { ClientCall } from "./client-call.ts";

/** It may be one that only begins another life at the same place, or that ends its calls itself. */
const backMs = 500;

/** Until the answer is called. */
export function endCallsAtGone(
  instances: InstanceList,
  clock: Clock,
  calls: ReadonlySet<ClientCall>,
): () => void {
  const addresses = (): Set<string> => new Set(instances.present.map(({ address }) => address));
  let live = addresses();
  let gone: string[] = [];
  let cancel: Cancel | undefined;
  const look = (): void => {
    cancel = undefined;
    const places = new Set(gone.filter((address) => !live.has(address)));
    gone = [];
    for (const call of calls)
      if (places.has(call.peer)) call.fail(unavailable("the instance that was asked is gone"));
  };
  const unwatch = instances.watch(() => {
    const before = live;
    live = addresses();
    const left = [...before].filter((address) => !live.has(address));
    if (left.length === 0) return;
    gone.push(...left);
    cancel?.();
    cancel = clock.after(backMs, look);
  });
  return () => {
    unwatch();
    cancel?.();
  };
}
