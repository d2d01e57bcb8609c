/** Presence's settings: the grace, and how much one connection, one gateway and storage may make it keep. */
import type { EnvReader } from "../mesh/env.ts";

export interface PresenceConfig {
  readonly graceMs: number;
  readonly watchMax: number;
  readonly outboxMax: number;
  readonly unsavedMax: number;
}

export function presenceConfig(read: EnvReader): PresenceConfig {
  return {
    graceMs: read.int(
      "PRESENCE_GRACE_MS",
      10_000,
      [0, 600_000],
      "from the end of a user's last connection to offline",
    ),
    watchMax: read.int(
      "PRESENCE_WATCH_MAX",
      1_000,
      [1, 10_000],
      "users whom one connection may watch",
    ),
    outboxMax: read.int(
      "PRESENCE_OUTBOX_MAX",
      65_536,
      [100, 10_000_000],
      "answers and changes that may wait for one gateway before its stream is cut",
    ),
    unsavedMax: read.int(
      "PRESENCE_UNSAVED_MAX",
      200_000,
      [1_000, 10_000_000],
      "last-seen times that may wait for storage; beyond that the oldest are given up",
    ),
  };
}
