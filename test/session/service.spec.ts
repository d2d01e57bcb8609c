import assert from "node:assert/strict";
import type { Client } from "@connectrpc/connect";
import { Code, createClient } from "@connectrpc/connect";
import { ManualClock } from "../../mesh/clock.ts";
import type { Mesh } from "../../mesh/mesh.ts";
import { PeerTable, peerOf } from "../../mesh/peers.ts";
import { GatewayService } from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { SessionService } from "../../proto/gen/parley/session/v1/session_pb.ts";
import type { SessionConfig } from "../../session/index.ts";
import { SessionServer } from "../../session/service.ts";
import {
  Streams,
  attachedOf,
  pushesOf,
  record,
  seqsOf,
  sessionCases,
} from "../conformance/services/session.ts";
import { eventually } from "./bidi.ts";
import { meshes, surroundingsOn } from "./meshes.ts";

const config: SessionConfig = {
  outboxMax: 10_000,
  outboxBytesMax: 8_000_000,
  edgesMax: 10_000,
  userSessionsMax: 64,
};

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
      streams = new Streams({ client });
      openCommits = () => running.registry.commits.size.open;
      close = () => running.close();
      problems = () => running.problems();
    }

    afterEach(async () => {
      await close();
      await mesh.close();
    });

    let streams: Streams;
    const attach = (gatewayId: string, bootId?: string) => streams.attach(gatewayId, bootId);
    const publish = () => streams.publish();
    const watch = () => streams.watch();

    for (const [title, passes] of Object.entries(sessionCases))
      it(title, async () => {
        await serve();
        await passes({ client });
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
