/** Answers to operators as people read them. */
import {
  type Connection,
  type ExplainMessageResponse,
  Fate,
  type GetUserResponse,
  type ListConnectionsResponse,
  type ListProcessesResponse,
  type OwnerView,
  type Shard,
  type Unanswered,
} from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { Availability, type Presence } from "../proto/gen/parley/v1/record_pb.ts";
import { shown, table, time } from "./table.ts";

export function processesText({ processes }: ListProcessesResponse): string {
  return table(
    ["service", "id", "name", "gRPC", "region", "state", "shards", "moved to it"],
    processes.map((one) => [
      one.service,
      one.processId,
      shown(one.name),
      shown(one.address),
      shown(one.region),
      one.draining ? "draining" : "up",
      one.service === "delivery" ? String(one.shards) : "-",
      shown(one.pinnedShards.join(",")),
    ]),
  );
}

export function connectionsText(answer: ListConnectionsResponse): string {
  const { connections, total, unanswered } = answer;
  const count = connections.length === total ? `${total}` : `${connections.length} of ${total}`;
  return lines(connectionTable(connections), `connections: ${count}`, silence(unanswered));
}

const connectionTable = (connections: readonly Connection[]): string =>
  table(
    ["gateway", "connection", "user", "device", "kind", "stage", "since", "waiting", "from"],
    connections.map((one) => [
      one.gatewayId,
      String(one.connection),
      shown(one.userId),
      shown(one.deviceId),
      one.kind,
      one.stage,
      time(one.sinceMs),
      `${one.outboxBytes} B`,
      shown(one.remoteAddress),
    ]),
  );

export function userText(userId: string, answer: GetUserResponse): string {
  const { presence, sessions, connections, unanswered } = answer;
  const places = table(
    ["device", "gateway", "connection", "known to session"],
    sessions.map((one) => [
      shown(one.deviceId),
      one.gatewayId,
      String(one.connection),
      one.sessionProcessId,
    ]),
  );
  return lines(
    `${userId} is ${presenceText(presence)}`,
    sessions.length === 0 ? "no sessions" : places,
    connections.length === 0 ? "no connections" : connectionTable(connections),
    silence(unanswered),
  );
}

function presenceText(presence: Presence | undefined): string {
  if (presence === undefined) return "online or not: presence does not say";
  if (presence.availability === Availability.ONLINE) return "online";
  return presence.lastSeenMs === 0n
    ? "offline, and was never seen"
    : `offline, last seen ${time(presence.lastSeenMs)}`;
}

export function shardText(shard: Shard | undefined): string {
  if (shard === undefined) return "unknown";
  const { shard: number, count, ownerId, epoch, ownerPresent, ownerDraining, pinnedToId } = shard;
  const where = `shard ${number} of ${count}`;
  if (ownerId === "") return `${where}: no owner yet`;
  const notes = [
    `epoch ${epoch}`,
    ...(shard.ownerAddress === "" ? [] : [`gRPC ${shard.ownerAddress}`]),
    ...(ownerPresent ? [] : ["it is gone: another is about to take over"]),
    ...(ownerDraining ? ["it is going away"] : []),
    ...(pinnedToId === "" ? [] : [pinnedText(pinnedToId, ownerId)]),
  ];
  return `${where}: delivery ${ownerId} (${notes.join(", ")})`;
}

const pinnedText = (pinnedToId: string, ownerId: string): string =>
  pinnedToId === ownerId ? "moved there by an operator" : `on its way to ${pinnedToId}`;

const fates: Readonly<Record<Fate, string>> = {
  [Fate.UNSPECIFIED]: "unknown",
  [Fate.NOT_THEIRS]: "not theirs",
  [Fate.READ]: "read",
  [Fate.DELIVERED]: "delivered",
  [Fate.NOT_SENT]: "not sent",
  [Fate.OFFLINE]: "offline",
  [Fate.UNACKED]: "not acked",
  [Fate.UNTOLD]: "not told",
  [Fate.UNREACHED]: "unreached",
  [Fate.UNKNOWN]: "unknown",
};

export function explanationText(answer: ExplainMessageResponse): string {
  const { summary, record, headSeq, shard, owner, members, membersLeftOut, unanswered } = answer;
  const sent =
    record === undefined
      ? ""
      : `message    #${record.seq} by ${record.senderId} at ${time(record.timeMs)}, client_id ${shown(Buffer.from(record.clientId).toString("base64"))}`;
  const rows = members.map(({ userId, fate, deliveredSeq, readSeq, explanation }) => [
    userId,
    fates[fate] ?? "unknown",
    `#${deliveredSeq}`,
    `#${readSeq}`,
    explanation,
  ]);
  return lines(
    summary,
    sent,
    `log        head #${headSeq}, ${answer.memberCount} members`,
    `owner      ${shardText(shard)}${ownerText(owner)}`,
    rows.length === 0 ? "" : table(["member", "fate", "delivered", "read", "why"], rows),
    membersLeftOut === 0 ? "" : `and ${membersLeftOut} more members`,
    silence(unanswered),
  );
}

function ownerText(owner: OwnerView | undefined): string {
  if (owner === undefined) return ", which does not answer";
  const { taking, loaded, headSeq, committedSeq, waiting } = owner;
  const takes = taking ? ", takes messages" : ", takes no messages now";
  if (!loaded) return `${takes}, has the conversation not in memory`;
  return `${takes}, gave #${headSeq}, committed #${committedSeq}, ${waiting} waiting`;
}

const silence = (unanswered: readonly Unanswered[]): string =>
  unanswered
    .map(({ service, processId, reason }) => `no answer: ${service} ${shown(processId)}: ${reason}`)
    .join("\n");

const lines = (...texts: string[]): string => texts.filter((text) => text !== "").join("\n");
