/** What every process of a suite is started with. */
import { leaseSeconds, prefix } from "./ground.ts";

export const everywhere = {
  PARLEY_ETCD_PREFIX: prefix,
  PARLEY_LEASE_SECONDS: String(leaseSeconds),
  PARLEY_DRAIN_MS: "500",
};
