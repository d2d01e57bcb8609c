/** Delivery's settings. */
import type { EnvReader } from "../mesh/env.ts";

export interface DeliveryConfig {
  readonly conversationsMax: number;
  readonly waitingMax: number;
  readonly cursorGatherMs: number;
}

export function deliveryConfig(read: EnvReader): DeliveryConfig {
  return {
    conversationsMax: read.int(
      "CONVERSATIONS_MAX",
      100_000,
      [100, 10_000_000],
      "conversations that delivery keeps in memory; idle ones above it are let go",
    ),
    waitingMax: read.int(
      "WAITING_MAX",
      65_536,
      [1, 1_000_000],
      "operations that may wait for one conversation",
    ),
    cursorGatherMs: read.int(
      "CURSOR_GATHER_MS",
      1_000,
      [10, 60_000],
      "how long cursors of a group of more than 16 members gather before they are told",
    ),
  };
}
