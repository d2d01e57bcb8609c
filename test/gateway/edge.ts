/** An edge for tests: a real HTTP server on loopback over a fake of what lies behind it. */
import { pino } from "pino";
import { systemClock } from "../../mesh/clock.ts";
import type { Clock } from "../../mesh/clock.ts";
import { createAuthenticator, signDevelopmentToken } from "../../gateway/auth.ts";
import { createEdgeServer, edgeConfig } from "../../gateway/http.ts";
import type { EdgeConfig, EdgeParts, EdgeServer } from "../../gateway/http.ts";
import type { Calls } from "../../gateway/ports.ts";

export const secret = "a secret for tests, of 32 bytes at least";
export const silent = pino({ level: "silent" });

export const tokenFor = (userId: string, ttlSeconds = 3_600): Promise<string> =>
  signDevelopmentToken(secret, userId, ttlSeconds, systemClock);

/** Calls of which only those given may be made. */
export function fakeCalls(given: Partial<Calls>): Calls {
  const missing = (): never => {
    throw new Error("this call was not expected");
  };
  return {
    send: missing,
    moveCursor: missing,
    sync: missing,
    history: missing,
    subscribe: missing,
    listMembers: missing,
    createGroup: missing,
    updateGroup: missing,
    watchPresence: missing,
    setTyping: missing,
    ...given,
  };
}

export interface TestEdge {
  readonly server: EdgeServer;
  readonly url: string;
  readonly port: number;
}

const opened: EdgeServer[] = [];

export async function openEdge(
  given: Partial<Omit<EdgeParts, "config">> & { config?: Partial<EdgeConfig>; clock?: Clock } = {},
): Promise<TestEdge> {
  const { config, ...parts } = given;
  const clock = parts.clock ?? systemClock;
  const server = createEdgeServer({
    calls: fakeCalls({}),
    auth: await createAuthenticator({ secret }, systemClock),
    upgrade: (_, socket) => void socket.destroy(),
    media: (_, response) => Promise.resolve(void response.end()),
    health: () => [],
    log: silent,
    ...parts,
    clock,
    config: { ...edgeConfig, ...config },
  });
  opened.push(server);
  const port = await server.listen("127.0.0.1", 0);
  return { server, port, url: `http://127.0.0.1:${port}` };
}

/** For afterEach: cuts whatever a test left open. */
export async function closeEdges(): Promise<void> {
  await Promise.all(opened.splice(0).map((server) => server.close(0)));
}

/** What a JSON answer says, where it is an object. */
export async function said(response: Response): Promise<Record<string, unknown>> {
  return (await response.json()) as Record<string, unknown>;
}
