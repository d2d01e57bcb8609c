/** What a process counts of itself, whatever its service: whether it can serve, and how its lease is. */
import type { Clock } from "./clock.ts";
import type { Identity } from "./identity.ts";
import type { Metrics } from "./metrics.ts";

/** Whether the process can serve, in all processes. */
export function countReady(metrics: Metrics, problems: () => readonly string[]): void {
  const ready = (): number => (problems().length === 0 ? 1 : 0);
  metrics.level("parley_ready", "1: it can serve; 0: /readyz says why not.", ready);
}

/** Of a process of a cluster. `renewedMs`: when its lease was renewed, on the monotonic clock; undefined while it has none. */
export function countLease(
  metrics: Metrics,
  clock: Clock,
  identity: Identity,
  renewedMs: () => number | undefined,
): void {
  metrics.level(
    "parley_lease_age_seconds",
    "How long ago the lease in etcd was renewed; NaN while there is none.",
    () => (clock.monotonic() - (renewedMs() ?? NaN)) / 1_000,
  );
  const lost = metrics.count(
    "parley_leases_lost_total",
    "Lives of the process that ended while it ran on: its lease was lost, or it was revoked.",
  );
  identity.watch(() => lost.add());
}
