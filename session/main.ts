/** Session as a process of a cluster. */
import { sleep } from "../mesh/clock.ts";
import type { EnvReader } from "../mesh/env.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { type ServiceProcess, command } from "../mesh/process.ts";
import { type OwnConfig, withoutEdge } from "../mesh/process-config.ts";
import { SessionService } from "../proto/gen/parley/session/v1/session_pb.ts";
import { type SessionConfig, sessionConfig } from "./config.ts";
import { SessionServer } from "./service.ts";

/** Gateways stay attached for some seconds after they attached elsewhere. */
const movedMs = 6_000;
const lookMs = 50;

interface Config extends OwnConfig {
  readonly session: SessionConfig;
}

export const session: ServiceProcess<typeof SessionService, Config> = {
  name: "session",
  service: SessionService,
  readConfig: (read: EnvReader) => ({ ...withoutEdge(read), session: sessionConfig(read) }),
  make({ config, surroundings }) {
    const running = new SessionServer(surroundings, config.session);
    const drain = (boundMs: number): Promise<void> => emptied(surroundings, running, boundMs);
    return Promise.resolve({ running, drain });
  },
};

/** Resolves once nobody is attached, or after the time; at once where there is nowhere to go. */
async function emptied(
  { clock, identity, peers }: Surroundings,
  { registry }: SessionServer,
  boundMs: number,
): Promise<void> {
  const others = peers(SessionService).present.filter(({ id }) => id !== identity.id);
  if (others.every(({ draining }) => draining)) return;
  const untilMs = clock.monotonic() + Math.min(boundMs, movedMs);
  while (registry.size.sessions > 0 && clock.monotonic() < untilMs) await sleep(clock, lookMs);
}

export const sessionCommand = command(session);
