/** Session's settings: how much may wait for whoever listens, and how many connections a user may have. */
import type { EnvReader } from "../mesh/env.ts";

export interface SessionConfig {
  readonly outboxMax: number;
  readonly outboxBytesMax: number;
  readonly edgesMax: number;
  readonly userSessionsMax: number;
}

export function sessionConfig(read: EnvReader): SessionConfig {
  return {
    outboxMax: read.int(
      "SESSION_OUTBOX_MAX",
      65_536,
      [100, 10_000_000],
      "pushes that may wait for one gateway before its stream is cut",
    ),
    outboxBytesMax: read.int(
      "SESSION_OUTBOX_BYTES_MAX",
      67_108_864,
      [1_048_576, 4_294_967_296],
      "bytes of pushes, about, that may wait for one gateway before its stream is cut",
    ),
    edgesMax: read.int(
      "SESSION_EDGES_MAX",
      262_144,
      [1_000, 10_000_000],
      "users who came or went that may wait for presence before its stream is cut",
    ),
    userSessionsMax: read.int(
      "SESSION_USER_SESSIONS_MAX",
      256,
      [1, 10_000],
      "connections of one user on all gateways together; one more replaces the oldest",
    ),
  };
}
