import assert from "node:assert/strict";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { Code, createClient } from "@connectrpc/connect";
import { ManualClock } from "../../mesh/clock.ts";
import type { Mesh } from "../../mesh/mesh.ts";
import { PeerTable, peerOf } from "../../mesh/peers.ts";
import { Ring } from "../../mesh/ring.ts";
import { GatewayService } from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import type {
  AttachRequestSchema,
  AttachResponse,
  Push,
  PublishRequestSchema,
  PublishResponse,
  WatchOnlineRequestSchema,
  WatchOnlineResponse,
} from "../../proto/gen/parley/session/v1/session_pb.ts";
import { SessionService } from "../../proto/gen/parley/session/v1/session_pb.ts";
import type { SessionConfig } from "../../session/index.ts";
import { SessionServer } from "../../session/service.ts";
import { Bidi, eventually } from "./bidi.ts";
import { meshes, surroundingsOn } from "./meshes.ts";

const config: SessionConfig = {
  outboxMax: 10_000,
  outboxBytesMax: 8_000_000,
  edgesMax: 10_000,
  userSessionsMax: 64,
};

type Attaching = Bidi<MessageInitShape<typeof AttachRequestSchema>, AttachResponse>;
type Publishing = Bidi<MessageInitShape<typeof PublishRequestSchema>, PublishResponse>;

const attachedOf = (received: AttachResponse[]) => received.flatMap(({ attached }) => attached);
const replacedOf = (received: AttachResponse[]) => received.flatMap(({ replaced }) => replaced);
const pushesOf = (received: AttachResponse[]): Push[] => received.flatMap(({ pushes }) => pushes);
const seqOf = ({ payload }: Push) =>
  payload?.payload.case === "record" ? payload.payload.value.seq : undefined;
const seqsOf = (received: AttachResponse[]) => pushesOf(received).map(seqOf);

const record = (
  userIds: string[],
  seq: number,
  more: { exceptOrigin?: string; onlyOrigin?: string; commit?: bigint } = {},
  bytes = 3,
) => ({
  userIds,
  payload: {
    payload: {
      case: "record" as const,
      value: { conversationId: "g:1", seq, record: new Uint8Array(bytes) },
    },
  },
  ...more,
});

for (const [name, start] of Object.entries(meshes)) {
  describe(`session over the ${name}`, () => {
    let mesh: Mesh;
    let client: Client<typeof SessionService>;
    let close: () => Promise<void>;
    let problems: () => string[];
    let openCommits: () => number;
    let gateways: PeerTable;
    let sessions: PeerTable;
    let clock: ManualClock;

    const present = (...ids: string[]) =>
      ids.map((id) => peerOf(id, mesh.transport(GatewayService)));

    async function serve(changed: Partial<SessionConfig> = {}): Promise<void> {
      mesh = await start();
      gateways = new PeerTable();
      sessions = new PeerTable();
      clock = new ManualClock();
      const around = surroundingsOn(mesh, clock, (service) => {
        if (service === GatewayService) return gateways;
        return service === SessionService ? sessions : undefined;
      });
      const running = new SessionServer(around, { ...config, ...changed });
      mesh.serve(SessionService, running.service);
      await running.start();
      client = createClient(SessionService, mesh.transport(SessionService));
      openCommits = () => running.registry.commits.size.open;
      close = () => running.close();
      problems = () => running.problems();
    }

    afterEach(async () => {
      await close();
      await mesh.close();
    });

    const attach = (gatewayId: string, bootId = "b1"): Attaching => {
      const stream: Attaching = new Bidi((requests, options) => client.attach(requests, options));
      stream.send({ gatewayId, bootId });
      return stream;
    };

    const publish = (): Publishing =>
      new Bidi((requests, options) => client.publish(requests, options));

    const watch = (
      asked: MessageInitShape<typeof WatchOnlineRequestSchema> = {},
    ): Bidi<object, WatchOnlineResponse> =>
      new Bidi((_requests, options) => client.watchOnline(asked, options));

    /** What a watcher knows after all that it was told. */
    const online = (received: WatchOnlineResponse[]): string[] => {
      const users = new Set<string>();
      for (const { onlineUserIds, offlineUserIds } of received) {
        for (const userId of onlineUserIds) users.add(userId);
        for (const userId of offlineUserIds) users.delete(userId);
      }
      return [...users].sort();
    };

    it("pushes what is published after the ack, in the publisher's order (P6)", async () => {
      await serve();
      const gateway = attach("g1");
      const publisher = publish();
      gateway.send({ attached: [{ connection: 5, userId: "ann", deviceId: "phone" }] });
      await gateway.until((received) => attachedOf(received).includes(5));
      for (let seq = 1; seq <= 100; seq += 1)
        publisher.send({ publications: [record(["ann"], seq)] });
      await gateway.until((received) => pushesOf(received).length === 100);
      assert.deepEqual(
        seqsOf(gateway.received),
        Array.from({ length: 100 }, (_, at) => at + 1),
      );
      assert.ok(pushesOf(gateway.received).every(({ connections }) => connections[0] === 5));
    });

    it("sends what one request published as one response, a push for each publication", async () => {
      await serve();
      const gateway = attach("g1");
      const publisher = publish();
      gateway.send({
        attached: [
          { connection: 1, userId: "ann", deviceId: "phone" },
          { connection: 2, userId: "bob", deviceId: "phone" },
        ],
      });
      await gateway.until((received) => attachedOf(received).length === 2);
      const before = gateway.received.length;
      const publications = [1, 2, 3, 4].map((seq) => record(["ann", "bob"], seq));
      publisher.send({ publications });
      await gateway.until((received) => pushesOf(received).length === 4);
      assert.equal(gateway.received.length, before + 1);
      for (const { connections } of pushesOf(gateway.received))
        assert.deepEqual(
          [...connections].sort((a, b) => a - b),
          [1, 2],
        );
    });

    it("sends large batches as several responses, in order", async () => {
      await serve();
      const gateway = attach("g1");
      const publisher = publish();
      gateway.send({ attached: [{ connection: 1, userId: "ann" }] });
      await gateway.until((received) => attachedOf(received).length === 1);
      const seqs = Array.from({ length: 60 }, (_, at) => at + 1);
      publisher.send({ publications: seqs.map((seq) => record(["ann"], seq, {}, 50_000)) });
      await gateway.until((received) => pushesOf(received).length === 60);
      assert.deepEqual(seqsOf(gateway.received), seqs);
      const sizes = gateway.received.map(({ pushes }) => pushes.length);
      assert.ok(Math.max(...sizes) <= 21, `responses of ${sizes.join(", ")} pushes`);
    });

    it("leaves the origin out, or reaches it alone", async () => {
      await serve();
      const gateway = attach("g1");
      const publisher = publish();
      gateway.send({
        attached: [
          { connection: 1, userId: "ann", deviceId: "phone" },
          { connection: 2, userId: "ann", deviceId: "laptop" },
        ],
      });
      await gateway.until((received) => attachedOf(received).length === 2);
      publisher.send({
        publications: [
          record(["ann"], 1, { exceptOrigin: "g1/1" }),
          record(["ann"], 2, { onlyOrigin: "g1/1" }),
        ],
      });
      await gateway.until((received) => pushesOf(received).length === 2);
      assert.deepEqual(
        pushesOf(gateway.received).map((push) => [seqOf(push), push.connections]),
        [
          [1, [2]],
          [2, [1]],
        ],
      );
    });

    it("reports a replaced device to the gateway that had it and routes to the new one", async () => {
      await serve();
      const [old, young] = [attach("g1"), attach("g2")];
      const publisher = publish();
      old.send({ attached: [{ connection: 1, userId: "ann", deviceId: "phone" }] });
      await old.until((received) => attachedOf(received).length === 1);
      young.send({ attached: [{ connection: 1, userId: "ann", deviceId: "phone" }] });
      await old.until((received) => replacedOf(received).includes(1));
      await young.until((received) => attachedOf(received).includes(1));
      publisher.send({ publications: [record(["ann"], 1)] });
      await young.until((received) => pushesOf(received).length === 1);
      assert.deepEqual(replacedOf(young.received), []);
      const { sessions } = await client.listSessions({ userId: "ann" });
      assert.deepEqual(
        sessions.map(({ gatewayId, connection, deviceId, bootId }) => [
          gatewayId,
          connection,
          deviceId,
          bootId,
        ]),
        [["g2", 1, "phone", "b1"]],
      );
    });

    it("says with the list how long ago another instance went away without a word (P7)", async () => {
      await serve();
      const lostMsAgo = async (): Promise<number> => {
        const watcher = watch();
        await watcher.until((received) => received.some(({ initialComplete }) => initialComplete));
        return watcher.received.find(({ initialComplete }) => initialComplete)?.lostMsAgo ?? -1;
      };
      const peer = (id: string, draining = false) =>
        peerOf(id, mesh.transport(SessionService), { draining });
      sessions.replace([peer("s1"), peer("s2"), peer("s3", true)]);
      sessions.replace([peer("s1"), peer("s2")]);
      clock.advance(500);
      assert.equal(await lostMsAgo(), 0);
      sessions.replace([peer("s1")]);
      clock.advance(2_000);
      assert.equal(await lostMsAgo(), 2_001);
    });

    it("lists everybody online first, in bounded messages, then tells every change (P7)", async () => {
      await serve();
      const gateway = attach("g1");
      const users = Array.from({ length: 2_500 }, (_, at) => `user ${at}`);
      gateway.send({ attached: users.map((userId, at) => ({ connection: at, userId })) });
      await gateway.until((received) => attachedOf(received).length === 2_500);
      const watcher = watch();
      await watcher.until((received) => received.some(({ initialComplete }) => initialComplete));
      assert.equal(online(watcher.received).length, 2_500);
      assert.ok(watcher.received.every(({ onlineUserIds }) => onlineUserIds.length <= 1_000));
      gateway.send({ detached: [0, 1], attached: [{ connection: 9_000, userId: "ann" }] });
      await watcher.until((received) => online(received).includes("ann"));
      await watcher.until((received) => online(received).length === 2_499);
      assert.equal(online(watcher.received).includes("user 0"), false);
    });

    it("ends the connections of a gateway however its stream ends (P7)", async () => {
      await serve();
      const watcher = watch();
      const [finishing, aborting] = [attach("g1"), attach("g2")];
      finishing.send({ attached: [{ connection: 1, userId: "ann" }] });
      aborting.send({ attached: [{ connection: 1, userId: "bob" }] });
      await watcher.until((received) => online(received).length === 2);
      finishing.finish();
      await watcher.until((received) => online(received).join() === "bob");
      assert.equal(await finishing.ended, undefined);
      aborting.abort();
      await watcher.until((received) => online(received).length === 0);
      assert.deepEqual((await client.listSessions({ userId: "bob" })).sessions, []);
    });

    it("ends a gateway's stream when the gateway comes again", async () => {
      await serve();
      const old = attach("g1", "b1");
      old.send({ attached: [{ connection: 1, userId: "ann" }] });
      await old.until((received) => attachedOf(received).length === 1);
      const young = attach("g1", "b2");
      young.send({ attached: [{ connection: 1, userId: "bob" }] });
      assert.equal((await old.ended)?.code, Code.Aborted);
      await young.until((received) => attachedOf(received).length === 1);
      assert.deepEqual((await client.listSessions({ userId: "ann" })).sessions, []);
      assert.equal((await client.listSessions({ userId: "bob" })).sessions[0]?.bootId, "b2");
    });

    it("keeps both of two that are announced again, and neither beside one that is new", async () => {
      await serve();
      const [one, two] = [attach("g1"), attach("g2")];
      one.send({ attached: [{ connection: 1, userId: "ann", deviceId: "phone", again: true }] });
      await one.until((received) => attachedOf(received).includes(1));
      two.send({ attached: [{ connection: 2, userId: "ann", deviceId: "phone", again: true }] });
      await two.until((received) => attachedOf(received).includes(2));
      assert.deepEqual(replacedOf(one.received), []);
      two.send({ attached: [{ connection: 3, userId: "ann", deviceId: "phone" }] });
      await one.until((received) => replacedOf(received).includes(1));
      await two.until((received) => replacedOf(received).includes(2));
      one.send({ attached: [{ connection: 4, userId: "ann", deviceId: "phone", again: true }] });
      await one.until((received) => replacedOf(received).includes(4));
      assert.deepEqual(attachedOf(one.received), [1]);
      const { sessions } = await client.listSessions({ userId: "ann" });
      assert.deepEqual(
        sessions.map(({ connection }) => connection),
        [3],
      );
    });

    it("ends a gateway's connections with its lease, and only with one that it had (P7)", async () => {
      await serve();
      gateways.replace(present("b1", "b2"));
      const [leased, other, early] = [attach("g1", "b1"), attach("g2", "b2"), attach("g3", "b3")];
      for (const [at, gateway] of [leased, other, early].entries()) {
        gateway.send({ attached: [{ connection: 1, userId: `user ${at}` }] });
        await gateway.until((received) => attachedOf(received).length === 1);
      }
      gateways.replace(present("b2"));
      const error = await leased.ended;
      assert.equal(error?.code, Code.Aborted);
      assert.match(error.rawMessage, /its lease ended: attach again/);
      assert.deepEqual((await client.listSessions({ userId: "user 0" })).sessions, []);
      gateways.replace(present("b2", "b3"));
      gateways.replace(present("b2"));
      assert.equal((await early.ended)?.code, Code.Aborted);
      other.send({ attached: [{ connection: 2, userId: "user 2" }] });
      await other.until((received) => attachedOf(received).length === 2);
      const back = attach("g1", "b4");
      back.send({ attached: [{ connection: 1, userId: "user 0" }] });
      await back.until((received) => attachedOf(received).length === 1);
    });

    it("keeps a gateway from another's id while that one lives, and lets it in afterwards", async () => {
      await serve();
      const named = (...ids: string[]) => present(...ids).map((peer) => ({ ...peer, name: "g1" }));
      gateways.replace(named("b1"));
      const [holder, other] = [attach("g1", "b1"), attach("g1", "b2")];
      assert.equal((await other.ended)?.code, Code.AlreadyExists);
      holder.send({ attached: [{ connection: 1, userId: "ann" }] });
      await holder.until((received) => attachedOf(received).length === 1);
      gateways.replace(named("b2"));
      assert.equal((await holder.ended)?.code, Code.Aborted);
      const later = attach("g1", "b2");
      later.send({ attached: [{ connection: 2, userId: "ann" }] });
      await later.until((received) => attachedOf(received).length === 1);
    });

    it("tells devices to sync that attached between a commit and its index, and no others (P6)", async () => {
      await serve();
      const gateway = attach("g1");
      const publisher = publish();
      const resyncs = () =>
        pushesOf(gateway.received)
          .filter(({ payload }) => payload?.payload.case === "resync")
          .flatMap(({ connections }) => connections);
      const attached = async (connection: number, userId: string) => {
        gateway.send({ attached: [{ connection, userId }] });
        await gateway.until((received) => attachedOf(received).includes(connection));
      };
      await attached(1, "ann");
      publisher.send({ publications: [record(["ann", "bob"], 1, { commit: 7n })] });
      await gateway.until((received) => seqsOf(received).includes(1));
      await attached(2, "bob");
      await attached(3, "eve");
      // In one request too: the record passes first.
      publisher.send({
        publications: [record(["ann"], 2, { commit: 8n })],
        indexedCommits: [7n, 8n],
      });
      await gateway.until(() => resyncs().length > 0);
      await attached(4, "ann");
      publisher.send({ publications: [record(["ann"], 3, { commit: 9n })], indexedCommits: [9n] });
      await gateway.until((received) => seqsOf(received).includes(3));
      assert.deepEqual(resyncs(), [2]);
    });

    it("forgets the open commits of a publisher whose stream ends", async () => {
      await serve();
      const gateway = attach("g1");
      gateway.send({ attached: [{ connection: 1, userId: "ann" }] });
      await gateway.until((received) => attachedOf(received).length === 1);
      for (const end of ["finish", "abort"] as const) {
        const before = pushesOf(gateway.received).length;
        const publisher = publish();
        publisher.send({ publications: [record(["ann"], 1, { commit: 1n })] });
        await gateway.until((received) => pushesOf(received).length > before);
        assert.equal(openCommits(), 1);
        publisher[end]();
        await eventually(() => openCommits() === 0);
      }
    });

    it("ends a publisher that never says what is indexed, and no other (P9)", async () => {
      await serve();
      const [greedy, other] = [publish(), publish()];
      const publications = Array.from({ length: 4_096 }, (_, at) => ({
        userIds: ["ann"],
        commit: BigInt(at + 1),
      }));
      for (let round = 0; round < 16; round += 1) greedy.send({ publications });
      await eventually(() => openCommits() === 4_096);
      greedy.send({ publications: [{ userIds: ["ann"], commit: 1n }] });
      assert.equal((await greedy.ended)?.code, Code.ResourceExhausted);
      await eventually(() => openCommits() === 0);
      const gateway = attach("g1");
      gateway.send({ attached: [{ connection: 1, userId: "ann" }] });
      await gateway.until((received) => attachedOf(received).length === 1);
      other.send({ publications: [record(["ann"], 1)] });
      await gateway.until((received) => seqsOf(received).includes(1));
    });

    it("tells each instance of presence of its own users only, and one that is not among them of none", async () => {
      await serve();
      const gateway = attach("g1");
      const presenceIds = ["p1", "p2", "p3"];
      const users = Array.from({ length: 300 }, (_, at) => `user ${at}`);
      const first = users.slice(0, 150);
      gateway.send({ attached: first.map((userId, at) => ({ connection: at, userId })) });
      await gateway.until((received) => attachedOf(received).length === first.length);
      const watchers = [...presenceIds, "p4"].map((presenceId) =>
        watch({ presenceIds, presenceId }),
      );
      const all = watch();
      for (const watcher of [...watchers, all])
        await watcher.until((received) => received.some(({ initialComplete }) => initialComplete));
      gateway.send({
        attached: users.slice(150).map((userId, at) => ({ connection: 150 + at, userId })),
        detached: [0, 1, 2],
      });
      await all.until((received) => online(received).length === 297);
      const ring = new Ring(presenceIds);
      for (const [at, presenceId] of [...presenceIds, "p4"].entries()) {
        const mine = users.slice(3).filter((userId) => ring.of(userId) === presenceId);
        const watcher = watchers[at];
        await watcher?.until((received) => online(received).length === mine.length);
        assert.deepEqual(online(watcher?.received ?? []), mine.sort());
        const told = watcher?.received.flatMap((one) => [
          ...one.onlineUserIds,
          ...one.offlineUserIds,
        ]);
        assert.ok(told?.every((userId) => ring.of(userId) === presenceId));
      }
    });

    for (const limit of [{ outboxMax: 50 }, { outboxBytesMax: 1_000_000 }])
      it(`cuts a gateway that does not read, and no other (P9), at ${JSON.stringify(limit)}`, async () => {
        await serve(limit);
        const [slow, quick] = [attach("g1"), attach("g2")];
        const publisher = publish();
        const resume = slow.pause();
        slow.send({ attached: [{ connection: 1, userId: "ann" }] });
        quick.send({ attached: [{ connection: 1, userId: "bob" }] });
        await slow.until((received) => attachedOf(received).length === 1);
        await quick.until((received) => attachedOf(received).length === 1);
        const rounds = 400;
        for (let seq = 1; seq <= rounds; seq += 1) {
          const payload = record(["ann", "bob"], seq, {}, 20_000);
          publisher.send({ publications: [payload] });
          await quick.until((received) => pushesOf(received).length === seq);
        }
        const { sessions } = await client.listSessions({ userId: "ann" });
        assert.deepEqual(sessions, [], "its connections are gone at once");
        resume();
        assert.equal((await slow.ended)?.code, Code.ResourceExhausted);
        assert.ok(pushesOf(slow.received).length < rounds);
      });

    it("cuts a watcher that does not read (P9)", async () => {
      await serve({ edgesMax: 20 });
      const gateway = attach("g1");
      const watcher = watch();
      const resume = watcher.pause();
      await watcher.until((received) => received.length > 0);
      const users = Array.from({ length: 10 }, (_, at) => ({
        connection: at,
        userId: "u".repeat(9_000) + at,
      }));
      for (let round = 0; round < 200; round += 1) {
        const before = attachedOf(gateway.received).length;
        gateway.send({ attached: users });
        await gateway.until((received) => attachedOf(received).length === before + 10);
        gateway.send({ detached: users.map(({ connection }) => connection) });
      }
      resume();
      assert.equal((await watcher.ended)?.code, Code.ResourceExhausted);
    });

    it("answers bad input with what is wrong", async () => {
      await serve();
      const nameless = attach("");
      assert.match((await nameless.ended)?.rawMessage ?? "", /gateway_id and boot_id/);
      const gateway = attach("g1");
      gateway.send({ attached: [{ connection: 1, userId: "" }] });
      assert.equal((await gateway.ended)?.code, Code.InvalidArgument);
      await assert.rejects(client.listSessions({}), { code: Code.InvalidArgument });
    });

    it("ends its streams with UNAVAILABLE when it closes", async () => {
      await serve();
      const gateway = attach("g1");
      gateway.send({ attached: [{ connection: 1, userId: "ann" }] });
      await gateway.until((received) => attachedOf(received).length === 1);
      const watcher = watch();
      await watcher.until((received) => received.some(({ initialComplete }) => initialComplete));
      const publisher = publish();
      publisher.send({ publications: [record(["ann"], 1)] });
      await gateway.until((received) => pushesOf(received).length === 1);
      assert.deepEqual(problems(), []);
      await close();
      for (const stream of [gateway, watcher, publisher])
        assert.equal((await stream.ended)?.code, Code.Unavailable);
      assert.equal(problems().length, 1);
    });
  });
}
