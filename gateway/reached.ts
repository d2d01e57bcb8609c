/** How session's view of a user is told to operators. */
import type { UserSession } from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import type { Session } from "../proto/gen/parley/session/v1/session_pb.ts";

export const sessionsOf = (sessionProcessId: string, sessions: readonly Session[]): UserSession[] =>
  sessions.map(({ gatewayId, connection, deviceId, bootId }) => ({
    $typeName: "parley.gateway.v1.UserSession",
    sessionProcessId,
    gatewayId,
    gatewayProcessId: bootId,
    connection,
    deviceId,
  }));
