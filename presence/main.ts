/** Presence as a process of a cluster. */
import { sleep } from "../mesh/clock.ts";
import type { EnvReader } from "../mesh/env.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { type ServiceProcess, command } from "../mesh/process.ts";
import { type OwnConfig, withoutEdge } from "../mesh/process-config.ts";
import { PresenceService } from "../proto/gen/parley/presence/v1/presence_pb.ts";
import { type PresenceConfig, presenceConfig } from "./config.ts";
import { createPresence } from "./index.ts";

/** So long after its users were placed elsewhere gateways watch them there. */
const movedMs = 6_000;

interface Config extends OwnConfig {
  readonly presence: PresenceConfig;
}

export const presence: ServiceProcess<typeof PresenceService, Config> = {
  name: "presence",
  service: PresenceService,
  readConfig: (read: EnvReader) => ({ ...withoutEdge(read), presence: presenceConfig(read) }),
  make({ config, surroundings }) {
    const running = createPresence(surroundings, config.presence);
    const drain = (boundMs: number): Promise<void> => moved(surroundings, boundMs);
    return Promise.resolve({ running, drain });
  },
};

/** At once where there is nowhere to go. */
async function moved({ clock, identity, peers }: Surroundings, boundMs: number): Promise<void> {
  const others = peers(PresenceService).present.filter(({ id }) => id !== identity.id);
  if (others.every(({ draining }) => draining)) return;
  await sleep(clock, Math.min(boundMs, movedMs));
}

export const presenceCommand = command(presence);
