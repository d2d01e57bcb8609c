/** What session and presence count moves when the thing happens. */
import assert from "node:assert/strict";
import { createClient } from "@connectrpc/connect";
import { ManualClock } from "../../mesh/clock.ts";
import { unavailable } from "../../mesh/errors.ts";
import { LocalMesh } from "../../mesh/local.ts";
import { createPresence } from "../../presence/index.ts";
import { PresenceService } from "../../proto/gen/parley/presence/v1/presence_pb.ts";
import { SessionService } from "../../proto/gen/parley/session/v1/session_pb.ts";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { createSession } from "../../session/index.ts";
import { SmallStorage } from "../presence/world.ts";
import { Bidi, eventually } from "./bidi.ts";
import { surroundingsOn } from "./meshes.ts";

describe("session's and presence's metrics", () => {
  it("count who is attached, what waits for gateways, who is known and who watches", async () => {
    const mesh = new LocalMesh({ wire: true });
    const clock = new ManualClock();
    const storage = new SmallStorage();
    const around = surroundingsOn(mesh, clock);
    const of = (name: string): number | undefined => around.metrics.of(`parley_${name}`);
    const limits = { outboxMax: 10_000, outboxBytesMax: 8_000_000, edgesMax: 10_000 };
    const session = createSession(around, { ...limits, userSessionsMax: 64 });
    mesh.serve(SessionService, session.service);
    const presence = createPresence(
      {
        ...around,
        transport: (service) =>
          service === StorageService ? storage.transport : mesh.transport(service),
      },
      { graceMs: 10_000, watchMax: 1_000, outboxMax: 10_000, unsavedMax: 10_000 },
    );
    mesh.serve(PresenceService, presence.service);
    const sessions = createClient(SessionService, mesh.transport(SessionService));
    const presences = createClient(PresenceService, mesh.transport(PresenceService));
    try {
      await session.start();
      await presence.start();
      const gateway = new Bidi((requests, options) => sessions.attach(requests, options));
      gateway.send({ gatewayId: "g1", bootId: "b1" });
      const attached = [
        { connection: 1, userId: "ann", deviceId: "phone" },
        { connection: 2, userId: "ann", deviceId: "laptop" },
      ];
      gateway.send({ attached });
      await eventually(() => of("session_sessions") === 2);
      assert.deepEqual([of("session_users"), of("session_gateways")], [1, 1]);
      await eventually(() => of("presence_people") === 1);
      assert.equal(of('streams{stream="presence to session"}'), 1);

      assert.equal(of("presence_watchers"), 0);
      const watch = new Bidi((requests, options) => presences.watch(requests, options));
      watch.send({ sets: [{ connection: 1, userId: "ann", userIds: ["bob"] }] });
      await eventually(() => of("presence_watchers") === 1);

      assert.equal(of("session_outbox_bytes"), 0);
      const publisher = new Bidi((requests, options) => sessions.publish(requests, options));
      const record = new Uint8Array(50_000);
      const value = { conversationId: "g:1", seq: 1, record };
      const go = gateway.pause();
      for (let seq = 1; seq <= 100; seq += 1)
        publisher.send({
          publications: [{ userIds: ["ann"], payload: { payload: { case: "record", value } } }],
        });
      await eventually(() => (of("session_outbox_bytes") ?? 0) > 100_000);
      go();
      await eventually(() => of("session_outbox_bytes") === 0);

      storage.failure = unavailable("storage is away");
      gateway.send({ detached: [1, 2] });
      await eventually(() => of("session_sessions") === 0);
      await eventually(() => {
        clock.advance(1_000);
        return of("presence_unsaved") === 1;
      });
      gateway.abort();
      publisher.abort();
      watch.abort();
      await eventually(() => of("session_gateways") === 0);
    } finally {
      storage.failure = undefined;
      await presence.close();
      await session.close();
      await mesh.close();
    }
  });
});
