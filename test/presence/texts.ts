/** What presence answered, as texts that a test reads easily. */
import type { WatchResponse } from "../../proto/gen/parley/presence/v1/presence_pb.ts";
import type { Presence } from "../../proto/gen/parley/v1/record_pb.ts";
import { Availability } from "../../proto/gen/parley/v1/record_pb.ts";

export const textOf = (presence: Presence | undefined): string => {
  if (presence === undefined) return "nothing";
  const { userId, availability, lastSeenMs } = presence;
  return availability === Availability.ONLINE
    ? `${userId} online`
    : `${userId} offline ${lastSeenMs}`;
};

export const snapshotsOf = (received: WatchResponse[]) =>
  received
    .flatMap(({ snapshots }) => snapshots)
    .map(({ connection, presences }) => `${connection}: ${presences.map(textOf).join(", ")}`);

export const changesOf = (received: WatchResponse[]) =>
  received
    .flatMap(({ changes }) => changes)
    .map(
      ({ connections, presence }) =>
        `${[...connections].sort((a, b) => a - b).join(" ")}: ${textOf(presence)}`,
    );
