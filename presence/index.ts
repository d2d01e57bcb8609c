/** The presence service: who is online, and who wants to know. */
import type { Running, Surroundings } from "../mesh/lifecycle.ts";
import type { PresenceService } from "../proto/gen/parley/presence/v1/presence_pb.ts";
import type { PresenceConfig } from "./config.ts";
import { PresenceServer } from "./service.ts";

export type { PresenceConfig } from "./config.ts";
export { presenceConfig } from "./config.ts";

export function createPresence(
  surroundings: Surroundings,
  config: PresenceConfig,
): Running<typeof PresenceService> {
  return new PresenceServer(surroundings, config);
}
