import assert from "node:assert/strict";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { Code, createClient } from "@connectrpc/connect";
import { ManualClock } from "../../mesh/clock.ts";
import type { Mesh } from "../../mesh/mesh.ts";
import type { Running } from "../../mesh/lifecycle.ts";
import type {
  WatchRequestSchema,
  WatchResponse,
} from "../../proto/gen/parley/presence/v1/presence_pb.ts";
import { PresenceService } from "../../proto/gen/parley/presence/v1/presence_pb.ts";
import { SessionService } from "../../proto/gen/parley/session/v1/session_pb.ts";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import type { PresenceConfig } from "../../presence/index.ts";
import { createPresence } from "../../presence/index.ts";
import { createSession } from "../../session/index.ts";
import { presenceCases } from "../conformance/services/presence.ts";
import { turn } from "../mesh/fake-storage.ts";
import { Bidi, eventually } from "../session/bidi.ts";
import { meshes, surroundingsOn } from "../session/meshes.ts";
import { changesOf, snapshotsOf, textOf } from "./texts.ts";
import { ScriptedSession, SmallStorage } from "./world.ts";

const config: PresenceConfig = {
  graceMs: 10_000,
  watchMax: 1_000,
  outboxMax: 10_000,
  unsavedMax: 10_000,
};

type Watching = Bidi<MessageInitShape<typeof WatchRequestSchema>, WatchResponse>;

for (const [name, startMesh] of Object.entries(meshes)) {
  describe(`presence over the ${name}`, () => {
    let mesh: Mesh;
    let clock: ManualClock;
    let session: ScriptedSession;
    let storage: SmallStorage;
    let presence: Running<typeof PresenceService>;
    let client: Client<typeof PresenceService>;
    let warnings: string[];
    let beganMs: number;

    const surroundings = () => {
      const around = surroundingsOn(mesh, clock);
      warnings = around.warnings;
      return {
        ...around,
        transport: (service: Parameters<Mesh["transport"]>[0]) =>
          service === StorageService ? storage.transport : mesh.transport(service),
      };
    };

    async function serve(changed: Partial<PresenceConfig> = {}): Promise<void> {
      mesh.serve(SessionService, session.service);
      await serveAlone(changed);
    }

    async function serveAlone(changed: Partial<PresenceConfig> = {}): Promise<void> {
      presence = createPresence(surroundings(), { ...config, ...changed });
      mesh.serve(PresenceService, presence.service);
      client = createClient(PresenceService, mesh.transport(PresenceService));
      await presence.start();
    }

    beforeEach(async () => {
      mesh = await startMesh();
      clock = new ManualClock();
      beganMs = clock.now();
      session = new ScriptedSession();
      storage = new SmallStorage();
    });

    afterEach(async () => {
      storage.failure = undefined;
      await presence.close();
      await mesh.close();
    });

    const watch = (): Watching => new Bidi((requests, options) => client.watch(requests, options));

    /** A connection's watch, answered. */
    async function watching(
      stream: Watching,
      connection: number,
      userIds: string[],
    ): Promise<void> {
      const before = snapshotsOf(stream.received).length;
      stream.send({ sets: [{ connection, userId: "me", userIds }] });
      await stream.until((received) => snapshotsOf(received).length > before);
    }

    const shown = async (userId: string) =>
      textOf((await client.getPresences({ userIds: [userId] })).presences[0]);

    /** Changes reach presence in their order, so once this user's is seen all before are. */
    async function settled(): Promise<void> {
      await eventually(() => presence.problems().length === 0);
      const marker = `marker ${clock.now()} ${session.online.size}`;
      session.begins(marker);
      for (
        let tries = 0;
        tries < 1_000 && (await shown(marker)) !== `${marker} online`;
        tries += 1
      );
      assert.equal(await shown(marker), `${marker} online`);
    }

    for (const [title, passes] of Object.entries(presenceCases))
      it(title, async () => {
        await serve({ watchMax: 3 });
        const elapse = async (ms: number): Promise<void> => {
          clock.advance(ms);
          for (let turns = 0; turns < 10; turns += 1) await turn();
        };
        const { graceMs } = config;
        const times = { graceMs, earlyMs: graceMs - 1, lateMs: 0, now: () => clock.now(), elapse };
        await passes({ client, session, storage, watchMax: 3, ...times });
      });

    it("answers nothing before it knows who is online (P7)", async () => {
      session.completes = false;
      session.online.add("ann");
      await serve();
      await eventually(() => session.watches === 1);
      await assert.rejects(client.getPresences({ userIds: ["ann"] }), { code: Code.Unavailable });
      const gateway = watch();
      gateway.send({ sets: [{ connection: 1, userId: "me", userIds: ["ann"] }] });
      session.completes = true;
      session.breakDown();
      await eventually(() => warnings.length > 0);
      assert.equal(storage.calls, 0);
      clock.advance(50);
      await gateway.until((received) => snapshotsOf(received).length === 1);
      assert.deepEqual(snapshotsOf(gateway.received), ["1: ann online"]);
    });

    it("cuts a gateway that does not read, and no other (P9)", async () => {
      await serve({ outboxMax: 20 });
      const [slow, quick] = [watch(), watch()];
      const crowd = Array.from({ length: 10 }, (_, at) => "u".repeat(9_000) + at);
      await watching(slow, 1, crowd);
      await watching(quick, 1, ["ann"]);
      const resume = slow.pause();
      for (let round = 0; round < 200 && slow.open; round += 1) {
        slow.send({ sets: [{ connection: round, userId: "me", userIds: crowd }] });
        await watching(quick, 1, ["ann"]);
      }
      resume();
      assert.equal((await slow.ended)?.code, Code.ResourceExhausted);
      session.begins("ann");
      await quick.until((received) => changesOf(received).includes("1: ann online"));
    });

    it("keeps what is not kept yet when it closes, and whoever is online as seen now", async () => {
      session.online.add("ann");
      session.online.add("bob");
      await serve();
      await settled();
      session.ends("bob");
      await settled();
      clock.advance(100);
      const gateway = watch();
      await watching(gateway, 1, ["ann"]);
      await presence.close();
      assert.equal((await gateway.ended)?.code, Code.Unavailable);
      assert.equal(storage.seenMs.get("bob"), beganMs);
      assert.equal(storage.seenMs.get("ann"), beganMs + 100);
    });

    it("follows the real session service to the end of a gateway's stream (P7)", async () => {
      const running = createSession(surroundings(), {
        outboxMax: 1_000,
        outboxBytesMax: 1_000_000,
        edgesMax: 1_000,
        userSessionsMax: 10,
      });
      mesh.serve(SessionService, running.service);
      await serveAlone();
      await eventually(() => presence.problems().length === 0);
      const sessions = createClient(SessionService, mesh.transport(SessionService));
      const gateway = watch();
      await watching(gateway, 1, ["ann"]);
      const attached = new Bidi((requests: AsyncIterable<object>, options) =>
        sessions.attach(requests, options),
      );
      attached.send({
        gatewayId: "g1",
        bootId: "b1",
        attached: [{ connection: 1, userId: "ann" }],
      });
      await gateway.until((received) => changesOf(received).length === 1);
      clock.advance(5_000);
      attached.abort();
      // The time of the end becomes known here by being kept.
      await eventually(() => {
        clock.advance(10);
        return storage.seenMs.has("ann");
      });
      clock.advance(10_000);
      await gateway.until((received) => changesOf(received).length === 2);
      assert.deepEqual(changesOf(gateway.received), [
        "1: ann online",
        `1: ann offline ${storage.seenMs.get("ann")}`,
      ]);
      await running.close();
    });
  });
}
