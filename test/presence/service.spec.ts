import assert from "node:assert/strict";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
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

    it("answers a set with how things are, then tells changes (P7)", async () => {
      session.online.add("ann");
      storage.seenMs.set("bob", 123);
      await serve();
      const gateway = watch();
      await watching(gateway, 1, ["ann", "bob", "eve"]);
      assert.deepEqual(snapshotsOf(gateway.received), [
        "1: ann online, bob offline 123, eve offline 0",
      ]);
      session.begins("bob");
      await gateway.until((received) => changesOf(received).length === 1);
      session.ends("ann");
      await settled();
      clock.advance(9_999);
      assert.equal(await shown("ann"), "ann online");
      clock.advance(1);
      await gateway.until((received) => changesOf(received).length === 2);
      assert.deepEqual(changesOf(gateway.received), ["1: bob online", `1: ann offline ${beganMs}`]);
    });

    it("tells nothing of a user who is back within the grace (P7)", async () => {
      session.online.add("ann");
      await serve();
      const gateway = watch();
      await watching(gateway, 1, ["ann", "bob"]);
      session.ends("ann");
      await settled();
      clock.advance(9_999);
      session.begins("ann");
      await settled();
      clock.advance(60_000);
      session.begins("bob");
      await gateway.until((received) => changesOf(received).length > 0);
      assert.deepEqual(changesOf(gateway.received), ["1: bob online"]);
    });

    it("lets nobody go offline when session is away, and gives the missing their grace (P7)", async () => {
      for (const userId of ["ann", "bob", "joe"]) session.online.add(userId);
      await serve();
      const gateway = watch();
      await watching(gateway, 1, ["ann", "bob", "joe"]);
      session.ends("joe");
      await settled();
      session.breakDown();
      await eventually(() => warnings.some((line) => line.includes("who is online")));
      assert.equal(presence.problems().length, 1);
      // Joe comes back while nobody can say so; Ann leaves.
      session.online.add("joe");
      session.online.delete("ann");
      clock.advance(60_000);
      await eventually(() => session.watches === 2 && presence.problems().length === 0);
      await settled();
      assert.equal(await shown("joe"), "joe online");
      clock.advance(9_999);
      assert.equal(await shown("ann"), "ann online");
      assert.deepEqual(changesOf(gateway.received), []);
      clock.advance(1);
      await gateway.until((received) => changesOf(received).length === 1);
      assert.deepEqual(changesOf(gateway.received), [`1: ann offline ${beganMs + 60_000}`]);
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

    it("shows only people who share a conversation with the watcher (P8)", async () => {
      storage.acquainted.set("me", ["ann"]);
      storage.acquainted.set("you", ["bob"]);
      await serve();
      const gateway = watch();
      gateway.send({
        sets: [
          { connection: 1, userId: "me", userIds: ["ann", "bob"] },
          { connection: 2, userId: "you", userIds: ["ann", "bob"] },
        ],
      });
      await gateway.until((received) => snapshotsOf(received).length === 2);
      assert.deepEqual(snapshotsOf(gateway.received).sort(), [
        "1: ann offline 0",
        "2: bob offline 0",
      ]);
      session.begins("ann", "bob");
      await gateway.until((received) => changesOf(received).length === 2);
      assert.deepEqual(changesOf(gateway.received).sort(), ["1: ann online", "2: bob online"]);
    });

    it("tells a change once to a gateway, with all its connections, and to no other gateway", async () => {
      await serve();
      const [gateway, other] = [watch(), watch()];
      await watching(gateway, 1, ["ann"]);
      await watching(gateway, 2, ["ann", "bob"]);
      await watching(gateway, 3, ["bob"]);
      await watching(other, 1, ["eve"]);
      session.begins("ann");
      session.begins("eve");
      await other.until((received) => changesOf(received).length === 1);
      await gateway.until((received) => changesOf(received).length === 1);
      assert.deepEqual(changesOf(gateway.received), ["1 2: ann online"]);
      assert.deepEqual(changesOf(other.received), ["1: eve online"]);
    });

    it("misses no change between the filter and the snapshot (P7)", async () => {
      await serve();
      const gateway = watch();
      await watching(gateway, 1, []);
      const gated = () => {
        let open: () => void = () => undefined;
        storage.gate = new Promise((resolve) => (open = resolve));
        return open;
      };
      const openFilter = gated();
      gateway.send({ sets: [{ connection: 1, userId: "me", userIds: ["ann", "bob"] }] });
      await eventually(() => storage.calls === 1);
      session.begins("ann");
      const openLookup = gated();
      openFilter();
      await eventually(() => storage.calls === 2);
      // Registered now, the lookup of last-seen times under way.
      session.begins("bob");
      storage.gate = Promise.resolve();
      await settled();
      openLookup();
      await gateway.until((received) => snapshotsOf(received).length === 2);
      assert.equal(snapshotsOf(gateway.received)[1], "1: ann online, bob online");
      assert.deepEqual(changesOf(gateway.received), [], "all of it was in the snapshot");
      session.ends("ann", "bob");
      await settled();
      clock.advance(10_000);
      await gateway.until((received) => changesOf(received).length === 2);
    });

    it("answers each set once, those of a connection in their order", async () => {
      await serve();
      const gateway = watch();
      const count = 100;
      for (let at = 0; at < count; at += 1)
        gateway.send({
          sets: [1, 2].map((connection) => ({ connection, userId: "me", userIds: [`user ${at}`] })),
        });
      await gateway.until((received) => snapshotsOf(received).length === 2 * count);
      for (const connection of [1, 2])
        assert.deepEqual(
          snapshotsOf(gateway.received).filter((text) => text.startsWith(`${connection}:`)),
          Array.from({ length: count }, (_, at) => `${connection}: user ${at} offline 0`),
        );
    });

    it("replaces a connection's set and ends it with the connection", async () => {
      await serve();
      const gateway = watch();
      await watching(gateway, 1, ["ann"]);
      await watching(gateway, 1, ["bob"]);
      await watching(gateway, 2, ["joe", "ann"]);
      gateway.send({ ended: [2] });
      await watching(gateway, 3, ["eve"]);
      session.begins("ann", "joe", "bob", "eve");
      await gateway.until((received) => changesOf(received).length === 2);
      assert.deepEqual(changesOf(gateway.received).sort(), ["1: bob online", "3: eve online"]);
    });

    it("refuses a set of too many, or of nobody's, and goes on (P9)", async () => {
      await serve({ watchMax: 3 });
      const gateway = watch();
      await watching(gateway, 1, ["ann"]);
      await watching(gateway, 1, ["a", "b", "c", "d"]);
      gateway.send({ sets: [{ connection: 2, userId: "", userIds: ["ann"] }] });
      await gateway.until((received) => snapshotsOf(received).length === 3);
      const [, many, nobodys] = gateway.received.flatMap(({ snapshots }) => snapshots);
      assert.equal(many?.code, Code.InvalidArgument);
      assert.match(many.message, /at most 3/);
      assert.equal(nobodys?.code, Code.InvalidArgument);
      session.begins("ann");
      await settled();
      await watching(gateway, 3, ["ann"]);
      assert.deepEqual(changesOf(gateway.received), []);
      const userIds = Array.from({ length: 1_001 }, (_, at) => `user ${at}`);
      await assert.rejects(client.getPresences({ userIds }), { code: Code.InvalidArgument });
    });

    it("asks storage again while it is away, and says so where it stays away", async () => {
      await serve();
      const gateway = watch();
      storage.failure = new ConnectError("away", Code.Unavailable);
      gateway.send({ sets: [{ connection: 1, userId: "me", userIds: ["ann"] }] });
      await eventually(() => storage.calls === 1);
      storage.failure = undefined;
      const advancing = () => {
        clock.advance(5_000);
        return snapshotsOf(gateway.received).length === 1;
      };
      await eventually(advancing);
      assert.deepEqual(snapshotsOf(gateway.received), ["1: ann offline 0"]);
      storage.failure = new ConnectError("away", Code.Unavailable);
      gateway.send({ sets: [{ connection: 1, userId: "me", userIds: ["bob"] }] });
      await eventually(() => {
        clock.advance(5_000);
        return snapshotsOf(gateway.received).length === 2;
      });
      assert.equal(gateway.received.at(-1)?.snapshots[0]?.code, Code.Unavailable);
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

    it("keeps when users were last seen, again until storage takes it", async () => {
      session.online.add("ann");
      await serve();
      await settled();
      storage.failure = new ConnectError("full", Code.ResourceExhausted);
      clock.advance(1_000);
      session.ends("ann");
      await settled();
      clock.advance(200);
      await eventually(() => warnings.some((line) => line.includes("not kept yet")));
      storage.failure = undefined;
      await eventually(() => {
        clock.advance(100);
        return storage.seenMs.has("ann");
      });
      assert.equal(storage.seenMs.get("ann"), beganMs + 1_000);
      clock.advance(20_000);
      assert.equal(await shown("ann"), `ann offline ${beganMs + 1_000}`);
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
