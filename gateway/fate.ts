/** What became of a message for one member, from what the services know of it. Pure. */
import { dateOf } from "../mesh/clock.ts";
import {
  type Connection,
  Fate,
  type UserSession,
} from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import type { Member } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { Availability, type Presence } from "../proto/gen/parley/v1/record_pb.ts";

export interface Known {
  readonly seq: number;
  /** Every device that syncs finds it. */
  readonly sent: boolean;
  readonly member: Member;
  readonly presence: Presence | undefined;
  readonly sessions: readonly UserSession[];
  readonly connections: readonly Connection[];
  /** Session or a gateway did not answer. */
  readonly partial: boolean;
}

export interface Told {
  readonly fate: Fate;
  /** A sentence. */
  readonly explanation: string;
}

export function fateOf(known: Known): Told {
  const { seq, sent, member } = known;
  const { leftSeq, floorSeq, deliveredSeq, readSeq } = member;
  if (leftSeq > 0 && leftSeq < seq)
    return told(Fate.NOT_THEIRS, `was removed by #${leftSeq}, before it`);
  if (floorSeq > seq) return told(Fate.NOT_THEIRS, `joined later: may read from #${floorSeq} on`);
  if (readSeq >= seq) return told(Fate.READ, `has read up to #${readSeq}`);
  if (deliveredSeq >= seq)
    return told(Fate.DELIVERED, `a device has got all up to #${deliveredSeq}`);
  if (!sent) return told(Fate.NOT_SENT, "nobody may see it yet");
  return reached(known);
}

function reached({ seq, presence, sessions, connections, partial }: Known): Told {
  const matched = connections.filter((one) => sessions.some((session) => isOf(session, one)));
  for (const { unacked, deviceId, gatewayId, outboxBytes } of matched) {
    if (unacked === undefined || unacked.toSeq < seq) continue;
    const again = unacked.tries === 0 ? "" : `, again ${unacked.tries} times`;
    const waiting = outboxBytes === 0 ? "" : `; ${outboxBytes} bytes wait for it to read`;
    return told(
      Fate.UNACKED,
      `pushed to ${device(deviceId)} at gateway ${gatewayId} ${seconds(unacked.forMs)} ago${again}, and not acked${waiting}`,
    );
  }
  const syncing = matched.find(({ stage }) => stage === "syncing");
  if (syncing !== undefined)
    return told(
      Fate.UNACKED,
      `${device(syncing.deviceId)} at gateway ${syncing.gatewayId} is being told what it lacked`,
    );
  const [one] = matched;
  if (one !== undefined)
    return told(
      Fate.UNTOLD,
      `${device(one.deviceId)} is connected at gateway ${one.gatewayId} by ${one.kind}, has nothing on its way, and has not said that it got it`,
    );
  if (partial) return told(Fate.UNKNOWN, "who would know its devices did not answer");
  return apart(presence, sessions, connections);
}

/** What session knows no gateway has, and the other way round. */
function apart(
  presence: Presence | undefined,
  sessions: readonly UserSession[],
  connections: readonly Connection[],
): Told {
  const [connection] = connections;
  if (connection !== undefined)
    return told(
      Fate.UNREACHED,
      `${device(connection.deviceId)} is connected at gateway ${connection.gatewayId} (${connection.stage}), and session does not know it: nothing is pushed to it`,
    );
  const [session] = sessions;
  if (session !== undefined)
    return told(
      Fate.UNREACHED,
      `session has ${device(session.deviceId)} at gateway ${session.gatewayId}, which does not know connection ${session.connection}`,
    );
  return told(
    Fate.OFFLINE,
    `no device is connected${lastSeen(presence)}: the next one that comes is told`,
  );
}

function lastSeen(presence: Presence | undefined): string {
  if (presence === undefined || presence.availability !== Availability.OFFLINE) return "";
  if (presence.lastSeenMs === 0n) return " (none ever was)";
  return ` (the last one was at ${dateOf(Number(presence.lastSeenMs)).toISOString()})`;
}

const told = (fate: Fate, explanation: string): Told => ({ fate, explanation });

const isOf = (session: UserSession, one: Connection): boolean =>
  session.gatewayId === one.gatewayId && session.connection === one.connection;

const device = (deviceId: string): string =>
  deviceId === "" ? "a device without a name" : `device ${deviceId}`;

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;
