/** The contracts of the five services, by name. */
import { createClient } from "@connectrpc/connect";
import { sleep, systemClock } from "../../../mesh/clock.ts";
import type { ServiceName } from "../../../mesh/directory.ts";
import { DeliveryService } from "../../../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { GatewayService } from "../../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { PresenceService } from "../../../proto/gen/parley/presence/v1/presence_pb.ts";
import { SessionService } from "../../../proto/gen/parley/session/v1/session_pb.ts";
import { StorageService } from "../../../proto/gen/parley/storage/v1/storage_pb.ts";
import { ScriptedSession, SmallStorage } from "../../presence/world.ts";
import { secret } from "../../support/parley.ts";
import { type Contract, contract } from "./contract.ts";
import { type DeliveryPlace, Published, deliveryCases } from "./delivery.ts";
import { deliveryOperatorCases } from "./delivery-operators.ts";
import { type GatewayPlace, gatewayCases } from "./gateway.ts";
import { gatewayOperatorCases } from "./gateway-operators.ts";
import { startOwn } from "./own.ts";
import { presenceCases } from "./presence.ts";
import { everywhere } from "./settings.ts";
import { sessionCases } from "./session.ts";
import { type SessionPlace, sessionClusterCases } from "./session-cluster.ts";
import { type StoragePlace, storageCases } from "./storage.ts";
import { type PresencePlace, presenceClusterCases } from "./presence-cluster.ts";

const graceMs = 1_500;

/** Cases that need a world alone. */
function inWorld<W>(cases: Readonly<Record<string, (world: W) => Promise<void>>>) {
  return Object.fromEntries(
    Object.entries(cases).map(([title, passes]) => [
      title,
      ({ world }: { readonly world: W }) => passes(world),
    ]),
  );
}

const presence = contract<PresencePlace>(
  "presence",
  PresenceService,
  { ...everywhere, PARLEY_PRESENCE_GRACE_MS: String(graceMs), PARLEY_PRESENCE_WATCH_MAX: "3" },
  { ...inWorld(presenceCases), ...presenceClusterCases },
  async (ground) => {
    const session = new ScriptedSession();
    const storage = new SmallStorage();
    await ground.serve("session", SessionService, session.service);
    await ground.serve("storage", StorageService, storage.service);
    return {
      meet(tested) {
        const world = {
          client: createClient(PresenceService, ground.transport(tested.address)),
          session,
          storage,
          graceMs,
          watchMax: 3,
          earlyMs: graceMs / 3,
          // Of a loaded machine.
          lateMs: 2_000,
          now: () => systemClock.now(),
          elapse: (ms: number) => sleep(systemClock, ms),
        };
        return { tested, world };
      },
    };
  },
);

const session = contract<SessionPlace>(
  "session",
  SessionService,
  everywhere,
  { ...inWorld(sessionCases), ...sessionClusterCases },
  (ground) =>
    Promise.resolve({
      meet: (tested) => ({
        tested,
        world: { client: createClient(SessionService, ground.transport(tested.address)) },
      }),
    }),
);

const delivery = contract<DeliveryPlace>(
  "delivery",
  DeliveryService,
  everywhere,
  { ...deliveryCases, ...deliveryOperatorCases },
  async (ground) => {
    const published = new Published();
    await ground.serve("session", SessionService, {
      publish: (requests) => published.take(requests),
    });
    const store = await startOwn("storage", ground, everywhere);
    const storage = createClient(StorageService, ground.transport(store.mesh));
    return {
      meet: (tested) => ({
        tested,
        client: createClient(DeliveryService, ground.transport(tested.address)),
        storage,
        published,
      }),
      close: () => store.stop(),
    };
  },
);

const gateway = contract<GatewayPlace>(
  "gateway",
  GatewayService,
  { ...everywhere, PARLEY_GATEWAY_ID: "tested", PARLEY_JWT_SECRET: secret },
  { ...gatewayCases, ...gatewayOperatorCases },
  async (ground) => {
    const behind = ["storage", "session", "delivery", "presence"] as const;
    const settings = { ...everywhere, PARLEY_LEASE_SECONDS: "5" };
    const running = await Promise.all(
      behind.map((name) =>
        startOwn(name, ground, {
          ...settings,
          ...(name === "presence" ? { PARLEY_PRESENCE_GRACE_MS: "300" } : {}),
        }),
      ),
    );
    const at = running.find(({ name }) => name === "session")?.mesh ?? "";
    const sessions = createClient(SessionService, ground.transport(at));
    return {
      meet: (tested, url) => ({
        tested,
        url,
        client: createClient(GatewayService, ground.transport(tested.address)),
        session: sessions,
      }),
      async close() {
        await Promise.all(running.map((process) => process.stop()));
      },
    };
  },
);

const storage = contract<StoragePlace>("storage", StorageService, everywhere, storageCases, () =>
  Promise.resolve({ meet: (tested) => ({ tested }) }),
);

export const contracts: Readonly<Record<ServiceName, Contract>> = {
  gateway,
  session,
  delivery,
  presence,
  storage,
};
