/** The session service: who is reachable where. */
import type { Running, Surroundings } from "../mesh/lifecycle.ts";
import type { SessionService } from "../proto/gen/parley/session/v1/session_pb.ts";
import type { SessionConfig } from "./config.ts";
import { SessionServer } from "./service.ts";

export type { SessionConfig } from "./config.ts";
export { sessionConfig } from "./config.ts";

export function createSession(
  surroundings: Surroundings,
  config: SessionConfig,
): Running<typeof SessionService> {
  return new SessionServer(surroundings, config);
}
